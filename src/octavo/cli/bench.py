"""``octavo bench``: the commands that measure, each of which is imported when it is called."""

from __future__ import annotations

from typing import Any

import typer

from octavo.cli.app import LazyGroup
from octavo.cli.arguments import CONTEXT_SETTINGS


class BenchGroup(LazyGroup):
    """The group of these commands; the module ``octavo.cli.bench_<name>`` has the ``make_command`` of each."""

    summaries = {  # noqa: RUF012 (nobody changes it)
        "serve": "Measure any server with OpenAI's API under load.",
        "sweep": "Measure a server at several loads, and find where it saturates.",
        "throughput": "Measure how many tokens a second an engine makes of a batch, without a server.",
        "latency": "Measure how long one batch takes in an engine, without a server.",
        "compare": "Compare the results of two tests, and say which differences are real.",
    }
    module_prefix = "octavo.cli.bench_"


def make_command() -> Any:
    """Return the group."""
    app = typer.Typer(
        name="bench",
        cls=BenchGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT_SETTINGS,
        invoke_without_command=True,
        add_completion=False,
        help="Measure servers and engines.",
        epilog="octavo bench COMMAND --help says more about a command.",
    )
    app.callback()(_top)
    return typer.main.get_command(app)


def _top(ctx: typer.Context) -> None:
    """Without a command, say which there are."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
