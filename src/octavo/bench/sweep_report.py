"""The report of a sweep: the saturation curve, and a table of its points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from octavo.bench.charts import Axis, Rule, Series, line_chart
from octavo.bench.files import write_whole
from octavo.bench.html_page import (
    charts,
    columns,
    footer,
    heading,
    notice,
    page,
    pairs,
    paragraph,
    section,
    table,
    wide_chart,
)
from octavo.bench.html_report import LATENCIES
from octavo.bench.scales import readable
from octavo.bench.summary import Distribution, Summary
from octavo.bench.sweep import SweepPoint, SweepResult, describe_knee

_AXES = {"request_rate": "request rate, requests/s", "max_concurrency": "concurrency"}
_HEADERS = {"request_rate": "rate, req/s", "max_concurrency": "concurrency"}
_LATENCY_COLUMNS = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "E2E"))


def write_sweep_report(sweep: SweepResult, path: Path) -> None:
    """Write the report of a sweep, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_whole(path, render_sweep_report(sweep).encode())


def render_sweep_report(sweep: SweepResult) -> str:
    """Return the report of a sweep as HTML."""
    loads = [point.load for point in sweep.points]
    header, rows = sweep_table(sweep)
    first = sweep.points[0].result
    varied = {"request_rate", "max_concurrency", "seed"}
    return page(
        f"Sweep: {sweep.model}",
        heading(f"Sweep: {sweep.model}", sweep.target, f"{sweep.created_at}, {len(loads)} points"),
        notice(sweep.warnings),
        paragraph(describe_knee(sweep)),
        wide_chart(saturation_chart(sweep, width=1120, height=420)),
        charts(_charts_over_load(sweep)),
        section("Points", table(header, rows, marked=loads.index(sweep.knee.load) if sweep.knee else None)),
        columns(
            pairs("Settings", {name: value for name, value in first.settings.items() if name not in varied}),
            pairs("Environment", first.environment),
        ),
        footer(sweep.octavo_version),
    )


def sweep_table(sweep: SweepResult) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table of the points."""
    latencies = [
        (name, label, percentile)
        for name, label in _LATENCY_COLUMNS
        for percentile in ("p50", "p99")
        if any(getattr(point.result.summary, name) is not None for point in sweep.points)
    ]
    has_goodput = any(point.result.summary.goodput is not None for point in sweep.points)
    header = [_HEADERS[sweep.variable], "req/s", "output tok/s", "total tok/s"]
    header += [f"{label} {percentile}, ms" for _, label, percentile in latencies]
    header += ["goodput, req/s"] if has_goodput else []
    rows = []
    for point in sweep.points:
        summary = point.result.summary
        row = [f"{point.load:g}"]
        row += map(readable, (summary.request_throughput, summary.output_throughput, summary.total_throughput))
        row += [_figure(summary, name, percentile) for name, _, percentile in latencies]
        row += [readable(summary.goodput) if summary.goodput is not None else "–"] if has_goodput else []
        rows.append([*row, f"{summary.num_failed:,}"])
    return [*header, "failed"], rows


def saturation_chart(sweep: SweepResult, *, width: float = 720, height: float = 380) -> str:
    """Draw throughput against latency: median and p99 of TTFT and TPOT, each point marked with its load."""
    series = [
        Series(
            f"{percentile} {label}",
            [_latency(point, name, percentile) for point in sweep.points],
            [point.result.summary.output_throughput for point in sweep.points],
            labels=[f"{point.load:g}" for point in sweep.points],
            color=color,
            dashed=percentile == "p99",
            annotate=percentile == "p50",
        )
        for color, (name, label) in enumerate(_LATENCY_COLUMNS[:2])
        for percentile in ("p50", "p99")
        if any(getattr(point.result.summary, name) is not None for point in sweep.points)
    ]
    return line_chart(
        series,
        title=f"Throughput against latency; the numbers are the {_AXES[sweep.variable].split(',')[0]}",
        x=Axis("latency, ms (logarithmic)", log=True),
        y=Axis("output tokens/s"),
        width=width,
        height=height,
    )


def _charts_over_load(sweep: SweepResult) -> Iterator[str]:
    x = Axis(_AXES[sweep.variable], low=0)
    loads = [point.load for point in sweep.points]
    knee = [Rule(sweep.knee.load, "knee")] if sweep.knee is not None and sweep.knee.is_saturated else []

    def draw(lines: Sequence[Series], title: str, unit: str, rules: Sequence[Rule] = ()) -> str:
        return line_chart(lines, title=title, x=x, y=Axis(unit), rules=[*knee, *rules], width=560, height=320)

    def over_load(name: str, value: Callable[[Summary], float]) -> Series:
        return Series(name, loads, [value(point.result.summary) for point in sweep.points])

    tokens = [over_load("", lambda summary: summary.output_throughput)]
    yield draw(tokens, "Output throughput", "tokens/s")
    requests = [over_load("served", lambda summary: summary.request_throughput)]
    if any(point.result.summary.goodput is not None for point in sweep.points):
        requests.append(over_load("within the objectives (goodput)", lambda summary: summary.goodput or 0.0))
    yield draw(requests, "Requests a second", "requests/s")
    for name, _ in _LATENCY_COLUMNS:
        if any(getattr(point.result.summary, name) is not None for point in sweep.points):
            lines = [
                Series(percentile, loads, [_latency(point, name, percentile) for point in sweep.points])
                for percentile in ("p50", "p90", "p99")
            ]
            yield draw(lines, LATENCIES[name], "ms", _objective(sweep.points, name))


def _objective(points: Sequence[SweepPoint], name: str) -> list[Rule]:
    slo = points[0].result.summary.slo
    limit = getattr(slo, name) if slo is not None else None
    return [Rule(limit, f"objective: {readable(limit)} ms", on="y")] if limit is not None else []


def _latency(point: SweepPoint, name: str, percentile: str) -> float:
    values: Distribution | None = getattr(point.result.summary, name)
    return float(getattr(values, percentile)) if values is not None else float("nan")


def _figure(summary: Summary, name: str, percentile: str) -> str:
    values: Distribution | None = getattr(summary, name)
    return readable(getattr(values, percentile)) if values is not None else "–"
