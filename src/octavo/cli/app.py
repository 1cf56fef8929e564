"""The ``octavo`` command and its subcommands, each of which is imported when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from octavo.cli.arguments import CONTEXT_SETTINGS, check_arguments, unknown_command
from octavo.errors import ConfigError
from octavo.version import __version__

COMMANDS = {
    "serve": "Serve a model over HTTP with OpenAI's API.",
    "chat": "Chat with a model in the terminal.",
    "top": "Watch a model server: rates, queues, latencies, running requests.",
    "generate": "Generate text for one prompt, or for each line of a JSONL file.",
    "bench": "Measure servers and engines under load.",
    "simulate": "Predict how replicas serve a load, and how many it needs.",
    "plan": "Plan a deployment: memory, speed and cost of a model on GPUs.",
    "validate": "Check a configuration of serve without starting it.",
}
"""Name and summary of each command; the module ``octavo.cli.<name>`` has its ``make_command``."""


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports one when it is needed.

    Attributes:
        summaries: name and summary of each command.
        module_prefix: what the name of a command's module begins with.
    """

    summaries: Mapping[str, str] = COMMANDS
    module_prefix = "octavo.cli."

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(self.summaries)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; None if there is none of that name."""
        if cmd_name not in self.summaries:
            return None
        return importlib.import_module(self.module_prefix + cmd_name).make_command()

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments call, or say what was probably meant."""
        if args[0] not in self.summaries and not ctx.resilient_parsing:
            raise unknown_command(args[0], list(self.summaries))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check the flags before the command's name, then parse."""
        return super().parse_args(ctx, args if ctx.resilient_parsing else check_arguments(self, ctx, args))


def make_app() -> Any:
    """Return the command that ``octavo`` runs."""
    app = typer.Typer(
        cls=LazyGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT_SETTINGS,
        help="Octavo: LLM inference and serving.",
        epilog="octavo COMMAND --help says more about a command.",
    )
    app.callback()(_top)
    return typer.main.get_command(app)


def _print_version(ctx: typer.Context, param: typer.CallbackParam, value: bool) -> None:
    """Print the version once both flags are known, whichever of them came first."""
    ctx.meta[str(param.name)] = value
    if ctx.resilient_parsing or not {"version", "verbose"} <= ctx.meta.keys():
        return
    if ctx.meta["version"]:
        typer.echo(f"octavo {__version__}")
        if ctx.meta["verbose"]:
            from octavo.cli.build_details import build_details  # loads torch

            typer.echo(build_details())
        raise typer.Exit
    if ctx.meta["verbose"]:
        raise ConfigError("--verbose goes with --version")


def _top(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and end."
    ),
    verbose: bool = typer.Option(
        False, "--verbose", callback=_print_version, is_eager=True, help="With --version: what this installation has."
    ),
) -> None:
    """Take the flags that stand before the name of a command."""
