"""``octavo chat``: a conversation in the terminal, with a server or with a model that the command starts itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from octavo.cli.arguments import build_command
from octavo.cli.config_flags import CONFIG_OPTION, MODEL_ARGUMENT, as_arguments, config_options, given_flags
from octavo.cli.conversation import Conversation, first_model, open_client
from octavo.cli.local_server import local_server
from octavo.config.schema import EngineConfig
from octavo.errors import ConfigError, OctavoError, nearest_name

_HELP = {
    "/reset": "forget the conversation; the system message stays",
    "/system TEXT": "set the system message and start over; without TEXT there is none",
    "/help": "say this",
    "/exit": "end (also Ctrl-D); Ctrl-C stops an answer",
}


def make_command() -> Any:
    """Return the command."""
    return build_command("chat", chat, config_options(EngineConfig))


def chat(
    model_argument: str | None = MODEL_ARGUMENT,
    url: str | None = typer.Option(None, metavar="URL", help="Chat with this server instead of starting a model."),
    api_key: str | None = typer.Option(None, metavar="KEY", help="Key for the server at --url."),
    system: str | None = typer.Option(None, metavar="TEXT", help="System message."),
    temperature: float | None = typer.Option(None, help="Sampling temperature; by default the server's own."),
    max_tokens: int | None = typer.Option(None, help="Most tokens in one answer; by default what fits."),
    config: Path | None = CONFIG_OPTION,
    **flags: Any,
) -> None:
    """Chat with a model in the terminal.

    With --url it talks to that server (any OpenAI-compatible one; --model chooses among its models). Without, it starts
    a model of its own: octavo-nano, or the one that is named, with the same flags as octavo serve.
    In the conversation, /help lists what else can be done.
    """
    given = given_flags(model_argument, flags)
    sampling = {"temperature": temperature, "max_tokens": max_tokens}
    console = Console(highlight=False)
    with ExitStack() as stack:
        if url is None:
            if api_key is not None:
                raise ConfigError("flag --api-key is for a server that --url names")
            with console.status("Starting the model …"):
                arguments = [*([f"--config={config}"] if config else []), *as_arguments(given)]
                server = stack.enter_context(local_server(arguments))
            client = stack.enter_context(open_client(server.url, server.api_key))
            model = first_model(client)
        else:
            _refuse_engine_flags(given, config)
            client = stack.enter_context(open_client(url, api_key))
            model = given.get("model") or first_model(client)
        conversation = Conversation(client, model, system)
        conversation.sampling = {name: value for name, value in sampling.items() if value is not None}
        _talk(console, conversation)


def _refuse_engine_flags(given: dict[str, Any], config: Path | None) -> None:
    engine_flags = [name for name in [*given, *(["config"] if config else [])] if name != "model"]
    if engine_flags:
        names = ", ".join("--" + name.replace("_", "-") for name in engine_flags)
        raise ConfigError(f"{names}: for a model that octavo chat starts itself; with --url there is none")


def _talk(console: Console, conversation: Conversation) -> None:
    """Read lines and answer them until the input ends."""
    with suppress(ImportError):
        import readline  # noqa: F401 (its import gives input() editing and history, where Python was built with it)
    is_interactive = sys.stdin.isatty()
    if is_interactive:
        console.print(f"[bold]{conversation.model}[/bold]  [dim]/help lists the commands[/dim]")
    while True:
        try:
            line = input("> " if is_interactive else "").strip()
        except EOFError:
            if is_interactive:
                console.print()
            return
        if line == "/exit":
            return
        if line.startswith("/"):
            _obey(console, conversation, line)
        elif line:
            _answer(console, conversation, line)


def _answer(console: Console, conversation: Conversation, line: str) -> None:
    """Print the answer to one line as it comes. Ctrl-C breaks it off, an error is said; then it goes on."""
    try:
        _print_pieces(console, conversation.say(line))
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        console.print("\n[dim](stopped)[/dim]")
    except OctavoError as error:
        if not sys.stdin.isatty():
            raise
        console.print("[red]error:[/red] ", end="")
        console.print(str(error), markup=False)


def _print_pieces(console: Console, pieces: Iterable[str]) -> None:
    for piece in pieces:
        console.print(piece, end="", markup=False, soft_wrap=True)
    console.print()


def _obey(console: Console, conversation: Conversation, line: str) -> None:
    command, _, text = line.partition(" ")
    if command == "/reset":
        conversation.reset()
        console.print("[dim]the conversation starts anew[/dim]")
    elif command == "/system":
        conversation.system = text.strip() or None
        conversation.reset()
        console.print("[dim]the conversation starts anew with this system message[/dim]")
    elif command == "/help":
        for usage, meaning in _HELP.items():
            console.print(f"{usage:14}{meaning}", markup=False)
    else:
        near = nearest_name(command, [usage.split()[0] for usage in _HELP])
        hint = f"did you mean {near}?" if near else "/help lists the commands"
        console.print(f"there is no {command}; {hint}", markup=False)
