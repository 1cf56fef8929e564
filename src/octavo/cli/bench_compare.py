"""``octavo bench compare``: two results side by side, and an exit code for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from octavo.cli.arguments import build_command
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from octavo.bench.compare import Comparison

_COLORS = {"better": "green", "worse": "red", "no clear difference": "dim"}


def make_command() -> Any:
    """Return the command."""
    return build_command("compare", compare)


def compare(
    before: Path = typer.Argument(..., metavar="A.json", help="Result of octavo bench: the one to compare with."),
    after: Path = typer.Argument(..., metavar="B.json", help="Result of octavo bench: the one to judge."),
    fail_above: str | None = typer.Option(
        None, metavar="PERCENT", help="Exit with 1 if a figure is clearly slower by more than this, e.g. 5%."
    ),
    html: Path | None = typer.Option(None, metavar="FILE", help="HTML file for the comparison."),
) -> int:
    """Compare two results of octavo bench, figure by figure.

    A difference is clear if its 95 % interval, bootstrapped from the requests of both runs, excludes 0 and it is more
    than 1 %. Figures that a run has only one number of, such as throughput, must change by more than 5 %.
    """
    limit = _parse_percent(fail_above) if fail_above is not None else None
    from octavo.bench.compare import compare as compare_results
    from octavo.bench.compare import different_settings, explain_regression, regressions
    from octavo.bench.compare_report import write_compare_report
    from octavo.bench.records import read_result

    first, second = read_result(before), read_result(after)
    for line in different_settings(first, second):
        typer.echo(f"octavo: warning: the tests differ in {line}", err=True)
    comparisons = compare_results(first, second)
    _print(comparisons)
    if html is not None:
        write_compare_report(first, second, comparisons, html, names=(before.stem, after.stem))
        typer.echo(f"wrote {html}", err=True)
    if limit is None:
        return 0
    worse = regressions(comparisons, limit)
    for comparison in worse:
        typer.echo(f"octavo: {explain_regression(comparison, limit)}", err=True)
    return 1 if worse else 0


def _print(comparisons: list[Comparison]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from octavo.bench.compare_report import FOOTNOTE, HEADER, table_row

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(HEADER):
        table.add_column(name, justify="left" if place in (0, len(HEADER) - 1) else "right")
    for comparison in comparisons:
        *cells, verdict = table_row(comparison)
        table.add_row(*cells, Text(verdict, style=_COLORS[comparison.verdict]))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    console.print(FOOTNOTE, style="dim", soft_wrap=True)


def _parse_percent(text: str) -> float:
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"--fail-above must be a percentage such as 5%, not {text!r}")
    return value
