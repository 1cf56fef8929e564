"""The report of one test as a single HTML file: headline figures, percentiles, distributions and what happened when.

Everything that comes from outside (names, settings, errors) is escaped by the parts of ``html_page``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from octavo.bench.charts import Axis, Rule, cdf_chart
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
    tile,
    tiles,
    wide_chart,
)
from octavo.bench.records import BenchResult, RequestRecord
from octavo.bench.scales import readable
from octavo.bench.summary import Distribution, Slo, Summary, meets
from octavo.bench.timeline import concurrency_chart, request_timeline, throughput_chart
from octavo.config.sizes import format_bytes

_WIDE = 1120
_LONG_TAIL = 20
_TITLES = {
    "serve": "Load test",
    "simulate": "Simulated load",
    "throughput": "Offline throughput",
    "latency": "Offline latency",
}
LATENCIES = {
    "ttft_ms": "Time to first token",
    "tpot_ms": "Time per output token",
    "itl_ms": "Inter-token latency",
    "e2e_ms": "End-to-end latency",
}
"""Name for readers of each latency of a summary."""


def write_html_report(result: BenchResult, path: Path) -> None:
    """Write the report of a test, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_whole(path, render_report(result).encode())


def render_report(result: BenchResult) -> str:
    """Return the report of a test as HTML."""
    title = f"{_TITLES[result.kind]}: {result.model}"
    return page(
        title,
        heading(title, result.target if result.target != result.model else "", _when(result)),
        notice(result.warnings),
        tiles(_headline(result.summary)),
        paragraph(describe_objectives(result)) if result.summary.slo is not None else "",
        section("Latencies in milliseconds", _percentiles(result.summary)),
        section("Distributions", charts(_distribution_charts(result))),
        section("Over time", *_over_time(result.records)),
        section("Errors", _errors(result.records)),
        columns(pairs("Settings", result.settings), pairs("Environment", result.environment)),
        footer(result.octavo_version),
    )


def latency_samples_ms(records: Sequence[RequestRecord]) -> dict[str, NDArray[np.float64]]:
    """Return every measured value of each latency, in milliseconds, under the names of ``Summary``."""
    done = [record for record in records if record.error is None]
    itl = [np.diff(record.chunk_times) for record in done if len(record.chunk_times) > 1]
    return {
        "ttft_ms": _milliseconds(record.ttft_s for record in done),
        "tpot_ms": _milliseconds(record.tpot_s for record in done),
        "itl_ms": np.concatenate(itl) * 1e3 if itl else np.empty(0),
        "e2e_ms": _milliseconds(record.e2e_s for record in done),
    }


def latency_axis(label: str, samples: Sequence[NDArray[np.float64]]) -> Axis:
    """Return an axis in milliseconds for some samples: logarithmic if their tail is long."""
    values = np.concatenate([np.empty(0), *samples])
    positive = values[values > 0]
    if len(positive) and positive.max() > _LONG_TAIL * np.median(positive):
        return Axis(f"{label}, ms (logarithmic)", log=True, low=_power_below(float(np.percentile(positive, 1))))
    return Axis(f"{label}, ms")


def describe_objectives(result: BenchResult) -> str:
    """Say which objectives there were and how many requests met them."""
    slo, summary = result.summary.slo, result.summary
    if slo is None:
        return "There were no objectives."
    limits = [f"{label} at most {readable(limit)} ms" for label, limit in _limits(slo).items()]
    num_met = sum(record.error is None and meets(record, slo) for record in result.records)
    share = num_met / summary.num_requests if summary.num_requests else 0.0
    return (
        f"Objectives: {'; '.join(limits)}. {num_met:,} of {summary.num_requests:,} requests met all of them "
        f"({share:.1%}), which is a goodput of {readable(summary.goodput or 0.0)} requests/s."
    )


def _limits(slo: Slo) -> dict[str, float]:
    limits = {label: getattr(slo, name) for name, label in LATENCIES.items()}
    return {label: limit for label, limit in limits.items() if limit is not None}


def _headline(summary: Summary) -> Iterator[str]:
    yield tile(readable(summary.request_throughput), "requests/s")
    yield tile(readable(summary.output_throughput), "output tokens/s")
    yield tile(readable(summary.total_throughput), "tokens/s, input and output")
    for name, values in (("TTFT", summary.ttft_ms), ("TPOT", summary.tpot_ms)):
        if values is not None:
            yield tile(f"{readable(values.p50)} ms", f"median {name}")
    if summary.e2e_ms is not None:
        yield tile(f"{readable(summary.e2e_ms.p99)} ms", "p99 end-to-end")
    if summary.goodput is not None:
        yield tile(readable(summary.goodput), "goodput, requests/s")
    yield tile(f"{summary.num_successful:,}", f"requests done in {readable(summary.duration_s)} s")
    if summary.gpu_memory_used_bytes is not None:
        yield tile(format_bytes(summary.gpu_memory_used_bytes), "GPU memory at most")
    if summary.num_failed:
        yield tile(f"{summary.num_failed:,}", "requests failed", "bad")


def _percentiles(summary: Summary) -> str:
    header = ["", "count", "mean", "std", "min", "p50", "p90", "p95", "p99", "max"]
    rows = []
    for name, label in LATENCIES.items():
        values: Distribution | None = getattr(summary, name)
        if values is not None:
            figures = (values.mean, values.std, values.min, values.p50, values.p90, values.p95, values.p99, values.max)
            rows.append([label, f"{values.count:,}", *map(readable, figures)])
    return table(header, rows) if rows else ""


def _distribution_charts(result: BenchResult) -> Iterator[str]:
    for name, values in latency_samples_ms(result.records).items():
        if len(values) > 1:
            limit = getattr(result.summary.slo, name) if result.summary.slo is not None else None
            rules = [Rule(limit, f"objective: {readable(limit)} ms")] if limit is not None else []
            axis = latency_axis(LATENCIES[name], [values])
            yield cdf_chart({"": values}, title=LATENCIES[name], x=axis, rules=rules, width=560, height=320)


def _over_time(records: Sequence[RequestRecord]) -> Iterator[str]:
    if len({record.finished_at for record in records}) > 1:
        yield charts([concurrency_chart(records, width=560), throughput_chart(records, width=560)])
        yield wide_chart(request_timeline(records, title="Requests", width=_WIDE))


def _errors(records: Sequence[RequestRecord]) -> str:
    failed = [record for record in records if record.error is not None]
    first_messages = {record.error: record.error_message for record in reversed(failed)}
    counts = Counter(record.error for record in failed)
    rows = [[str(kind), f"{count:,}", first_messages[kind]] for kind, count in counts.most_common()]
    return table(["kind", "requests", "the first one's message"], rows, kind="texts") if rows else ""


def _when(result: BenchResult) -> str:
    return f"{result.created_at}, {result.summary.num_requests:,} requests"


def _milliseconds(seconds: Iterator[float | None]) -> NDArray[np.float64]:
    return np.array([value for value in seconds if value is not None], dtype=np.float64) * 1e3


def _power_below(value: float) -> float:
    return float(10.0 ** np.floor(np.log10(value)))
