"""``octavo top``: a model server's rates, queues and latencies in the terminal, live."""

from __future__ import annotations

import math
import time
from typing import Any

import typer
from rich.console import Console
from rich.live import Live

from octavo.bench.server_view import ServerFrame, ServerView
from octavo.cli.arguments import build_command
from octavo.cli.top_screen import frame_as_json, render
from octavo.errors import ConfigError, OctavoError

_DEFAULT_URL = "http://127.0.0.1:8000"
_MIN_INTERVAL_S = 0.1


def make_command() -> Any:
    """Return the command."""
    return build_command("top", top)


def top(
    url: str = typer.Argument(_DEFAULT_URL, metavar="[URL]", help="The server.", show_default=True),
    api_key: str | None = typer.Option(None, metavar="KEY", help="Key for the server."),
    interval: float = typer.Option(1.0, metavar="SECONDS", help="Time between two looks at the server."),
    once: bool = typer.Option(False, "--once", help="Print one frame and end."),
    as_json: bool = typer.Option(False, "--json", help="With --once: print the frame as JSON."),
) -> None:
    """Watch a model server: its rates, queues, KV cache, latencies and running requests, until Ctrl-C.

    It reads what any server of Octavo or vLLM shows at /metrics. Rates and latencies are those of the last ten seconds;
    latencies in grey are of all the time since the server started, since there were none lately.
    """
    if not (math.isfinite(interval) and interval >= _MIN_INTERVAL_S):
        raise ConfigError(f"--interval must be at least {_MIN_INTERVAL_S} seconds, not {interval}")
    if as_json and not once:
        raise ConfigError("--json prints one frame; add --once")
    console = Console(highlight=False)
    if not once and not console.is_terminal:
        raise ConfigError("a live view needs a terminal; --once prints one frame")
    view = ServerView(url, api_key)
    try:
        if once:
            _print_once(console, view, interval, as_json)
        else:
            _follow(console, view, interval)
    except KeyboardInterrupt:
        return
    finally:
        view.close()


def _print_once(console: Console, view: ServerView, interval: float, as_json: bool) -> None:
    """Look twice, since a rate has a beginning and an end."""
    frame = view.refresh()
    if frame.problem is None:
        time.sleep(interval)
        frame = view.refresh()
    if frame.problem is not None:
        raise OctavoError(f"no view of {frame.url}: {frame.problem}")
    if as_json:
        typer.echo(frame_as_json(frame))
    else:
        console.print(render(frame))


def _follow(console: Console, view: ServerView, interval: float) -> None:
    with Live(render(ServerFrame(url=view.url)), console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(view.refresh()), refresh=True)
            time.sleep(interval)
