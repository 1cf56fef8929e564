"""The report of a search for replicas: curves of attainment, goodput, latencies and cost over their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from octavo.bench.charts import Axis, Rule, Series, line_chart, render_png
from octavo.bench.files import write_whole
from octavo.bench.html_page import charts, heading, notice, page, pairs, paragraph, section, table, wide_chart
from octavo.bench.html_report import LATENCIES
from octavo.bench.scales import readable
from octavo.simulate.replica_search import ReplicaSearch, SearchPoint
from octavo.version import __version__

_X = Axis("replicas", low=0)


def write_search_report(
    search: ReplicaSearch, path: Path, *, title: str, settings: Mapping[str, Any], warnings: Sequence[str] = ()
) -> None:
    """Write the report as one HTML file, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    header, rows = search_table(search)
    numbers = [point.num_replicas for point in search.points]
    content = page(
        f"Replicas: {title}",
        heading(f"Replicas: {title}", "simulated"),
        notice(warnings),
        paragraph(describe_search(search)),
        wide_chart(search_chart(search, width=1120, height=420)),
        charts(_charts(search)),
        section("Points", table(header, rows, marked=numbers.index(search.needed) if search.needed else None)),
        pairs("Settings", settings),
        f"<footer>Made by octavo {__version__}.</footer>",
    )
    write_whole(path, content.encode())


def write_search_png(search: ReplicaSearch, path: Path) -> None:
    """Write the main chart as a picture.

    Raises:
        ConfigError: the file cannot be written, or the extra ``png`` is not installed.
    """
    render_png(search_chart(search), path)


def describe_search(search: ReplicaSearch) -> str:
    """Say in one or two sentences what the search found."""
    objectives = ", ".join(
        f"{name.removesuffix('_ms').upper()} at most {readable(limit)} ms"
        for name in LATENCIES
        if (limit := getattr(search.slo, name)) is not None
    )
    goal = f"{search.target_attainment:.4g} of all requests within {objectives}"
    last = search.points[-1]
    if search.needed is None:
        return f"Not reached: {goal}. With {last.num_replicas} replicas it is {last.attainment:.4f}."
    point = next(point for point in search.points if point.num_replicas == search.needed)
    replicas = "replica" if search.needed == 1 else "replicas"
    text = f"{search.needed} {replicas}: {point.attainment:.4f} of all requests within {objectives}."
    if point.cost_per_hour is not None and point.cost_per_million_output is not None:
        text += f" ${point.cost_per_hour:.2f} an hour, ${point.cost_per_million_output:.2f} a million output tokens."
    return text


def search_chart(search: ReplicaSearch, *, width: float = 720, height: float = 380) -> str:
    """Draw the part of the requests that met the objectives over the number of replicas."""
    return line_chart(
        [_over_replicas(search, "", lambda point: 100 * point.attainment)],
        title="Requests within the objectives",
        x=_X,
        y=Axis("% of all requests", low=0),
        rules=[
            Rule(100 * search.target_attainment, f"wanted: {100 * search.target_attainment:.4g} %", on="y"),
            *([Rule(search.needed, f"{search.needed} needed")] if search.needed else []),
        ],
        width=width,
        height=height,
    )


def search_table(search: ReplicaSearch) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table of the points."""
    header = [
        "replicas",
        "attainment",
        "goodput, req/s",
        "TTFT p50, ms",
        "TTFT p99, ms",
        "TPOT p50, ms",
        "TPOT p99, ms",
    ]
    has_cost = search.price_per_hour is not None
    header += ["$/hour", "$/M output tokens"] if has_cost else []
    rows = []
    for point in search.points:
        row = [str(point.num_replicas), f"{point.attainment:.4f}", readable(point.summary.goodput or 0.0)]
        row += [_latency(point, name, percentile) for name in ("ttft_ms", "tpot_ms") for percentile in ("p50", "p99")]
        row += [f"{point.cost_per_hour:.2f}", f"{point.cost_per_million_output:.2f}"] if has_cost else []
        rows.append(row)
    return header, rows


def _charts(search: ReplicaSearch) -> Iterator[str]:
    goodput = _over_replicas(search, "", lambda point: point.summary.goodput or 0.0)
    yield _small_chart([goodput], "Goodput", Axis("requests/s", low=0))
    for name in ("ttft_ms", "tpot_ms"):
        if all(getattr(point.summary, name) is not None for point in search.points):
            limit = getattr(search.slo, name)
            rules = [Rule(limit, f"objective: {readable(limit)} ms", on="y")] if limit is not None else []
            axis = Axis("ms (logarithmic)", log=True)
            lines = [_over_replicas(search, part, _percentile(name, part)) for part in ("p50", "p99")]
            yield _small_chart(lines, LATENCIES[name], axis, rules)
    if search.price_per_hour is not None:
        cost = _over_replicas(search, "", lambda point: point.cost_per_million_output or 0.0)
        yield _small_chart([cost], "Cost", Axis("$ a million output tokens", low=0))


def _small_chart(lines: Sequence[Series], title: str, y: Axis, rules: Sequence[Rule] = ()) -> str:
    return line_chart(lines, title=title, x=_X, y=y, rules=rules, width=560, height=320)


def _percentile(name: str, percentile: str) -> Callable[[SearchPoint], float]:
    return lambda point: float(getattr(getattr(point.summary, name), percentile))


def _over_replicas(search: ReplicaSearch, name: str, value: Callable[[SearchPoint], float]) -> Series:
    return Series(name, [point.num_replicas for point in search.points], [value(point) for point in search.points])


def _latency(point: SearchPoint, name: str, percentile: str) -> str:
    values = getattr(point.summary, name)
    return readable(getattr(values, percentile)) if values is not None else "–"
