"""``octavo bench sweep``: a load test at several loads, and where the server saturates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from octavo.cli.arguments import build_command
from octavo.cli.bench_serve import HTML_OPTION, OUTPUT_OPTION, load_options, load_settings
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from octavo.bench.records import BenchResult
    from octavo.bench.serve_settings import ServeSettings
    from octavo.bench.sweep import SweepResult, Variable

_SET_BY_THE_SWEEP = frozenset({"request_rate", "ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps"})
_WIDTH_OF_A_FILE = 160


def make_command() -> Any:
    """Return the command."""
    options = [option for option in load_options() if option.name not in _SET_BY_THE_SWEEP]
    return build_command("sweep", sweep, options)


def sweep(
    request_rates: str | None = typer.Option(None, metavar="R,R,...", help="Requests a second, e.g. 1,2,4,8."),
    concurrencies: str | None = typer.Option(
        None, metavar="N,N,...", help="Requests under way at a time, e.g. 1,2,4,8,16."
    ),
    auto: bool = typer.Option(
        False,
        "--auto",
        help="Double the load until throughput (with --slo: goodput) grows by less than 5 %, then close in on the "
        "knee. It begins at the one value of --request-rates or --concurrencies, or at concurrency 1.",
    ),
    max_points: int = typer.Option(16, help="Most tests that --auto makes."),
    output: Path | None = OUTPUT_OPTION,
    html: Path | None = HTML_OPTION,
    **flags: Any,
) -> int:
    """Test a server at several loads, and say where its throughput stops growing.

    All other flags are those of octavo bench serve. Without --num-prompts and --duration each test takes 30 seconds.
    Ctrl-C ends the sweep and shows the points that were complete. The exit code is 0 if any request succeeded.
    """
    variable, loads = _parse_loads(request_rates, concurrencies, auto)
    if max_points < 2:
        raise ConfigError(f"--max-points must be at least 2, not {max_points}")
    settings = _settings_at(variable, loads[0], flags)
    from octavo.bench.files import check_targets
    from octavo.bench.serve_sweep import make_measure
    from octavo.bench.sweep import run_auto_sweep, run_sweep, write_sweep
    from octavo.bench.sweep_report import write_sweep_report
    from octavo.bench.terminal import live_progress

    check_targets(output, html)
    with live_progress(Console(stderr=True)) as on_progress:
        measure = make_measure(settings, variable, on_progress=on_progress, on_result=_print_point)
        if auto:
            result = run_auto_sweep(variable, loads[0], measure, max_points=max_points)
        else:
            result = run_sweep(variable, loads, measure)
    _print(result)
    for path, write in ((output, write_sweep), (html, write_sweep_report)):
        if path is not None:
            write(result, path)
            typer.echo(f"wrote {path}", err=True)
    return 0 if any(point.result.summary.num_successful for point in result.points) else 1


def _parse_loads(request_rates: str | None, concurrencies: str | None, auto: bool) -> tuple[Variable, list[float]]:
    if request_rates is not None and concurrencies is not None:
        raise ConfigError("give either --request-rates or --concurrencies, not both")
    if request_rates is None and concurrencies is None:
        if not auto:
            raise ConfigError("give --request-rates, --concurrencies or --auto")
        return "max_concurrency", [1.0]
    variable: Variable = "request_rate" if request_rates is not None else "max_concurrency"
    flag = "--request-rates" if request_rates is not None else "--concurrencies"
    text = request_rates or concurrencies or ""
    try:
        loads = [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{flag} must be numbers with commas between them, such as 1,2,4, not {text!r}") from None
    if auto and len(loads) != 1:
        raise ConfigError(f"with --auto, {flag} is the one load to begin with, not {text!r}")
    return variable, loads


def _settings_at(variable: Variable, load: float, flags: dict[str, Any]) -> ServeSettings:
    """Return the settings of a load test at a load, so that they are checked as a whole."""
    from octavo.bench.sweep import check_loads

    check_loads(variable, [load])
    rate = load if variable == "request_rate" else float("inf")
    unset = dict.fromkeys(_SET_BY_THE_SWEEP)
    if variable == "max_concurrency":
        if flags["max_concurrency"] is not None:
            raise ConfigError("a sweep over concurrencies sets --max-concurrency itself: leave it out")
        flags = {**flags, "max_concurrency": int(load)}
    return load_settings(**{**flags, **unset, "request_rate": rate})


def _print_point(load: float, result: BenchResult) -> None:
    summary = result.summary
    failed = f", {summary.num_failed:,} failed" if summary.num_failed else ""
    figures = f"{summary.request_throughput:.2f} requests/s, {summary.output_throughput:,.1f} output tokens/s"
    typer.echo(f"at {load:g}: {figures}{failed}", err=True)


def _print(result: SweepResult) -> None:
    from octavo.bench.sweep import describe_knee
    from octavo.bench.sweep_report import sweep_table

    header, rows = sweep_table(result)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, justify="right")
    for point, row in zip(result.points, rows, strict=True):
        is_knee = result.knee is not None and point.load == result.knee.load
        table.add_row(*row, style="bold" if is_knee else None)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    console.print(table)
    typer.echo(describe_knee(result))
    for warning in result.warnings:
        typer.echo(f"warning: {warning}")
