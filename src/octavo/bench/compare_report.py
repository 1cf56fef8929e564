"""The comparison of two results for readers: a table, and their distributions over each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from octavo.bench.charts import cdf_chart
from octavo.bench.compare import Comparison, different_settings
from octavo.bench.files import write_whole
from octavo.bench.html_page import charts, heading, notice, page, paragraph, section, table
from octavo.bench.html_report import LATENCIES, latency_axis, latency_samples_ms
from octavo.bench.records import BenchResult
from octavo.bench.scales import readable

HEADER = ("", "before", "after", "ratio", "change", "95 % interval of the change", "verdict")
FOOTNOTE = (
    "The intervals are bootstrapped from the requests of these two runs; they do not know how much two runs of the "
    "same thing differ, and of twenty one is wrong on average. Where there is none, a run has one number only, and a "
    "change of up to 5 % counts as none."
)
_MOODS = {"better": "good", "worse": "bad", "no clear difference": ""}


def write_compare_report(
    before: BenchResult, after: BenchResult, comparisons: Sequence[Comparison], path: Path, *, names: tuple[str, str]
) -> None:
    """Write the comparison as one HTML file, whole or not at all.

    Args:
        names: what the two results are called, such as the names of their files.

    Raises:
        ConfigError: the file cannot be written.
    """
    title = f"{names[0]} and {names[1]}"
    differences = [f"The tests differ in {line}" for line in different_settings(before, after)]
    rows = [table_row(comparison) for comparison in comparisons]
    moods = [_MOODS[comparison.verdict] for comparison in comparisons]
    text = page(
        title,
        heading(title, f"{before.created_at}, {before.target}", f"{after.created_at}, {after.target}"),
        notice(differences),
        section("Figures", table(HEADER, rows, moods=moods)),
        paragraph(FOOTNOTE),
        section("Distributions", charts(_distribution_charts(before, after, names))),
    )
    write_whole(path, text.encode())


def table_row(comparison: Comparison) -> list[str]:
    """Write a comparison as the cells of a row under ``HEADER``."""
    has_ratio = math.isfinite(comparison.ratio)
    interval = "–"
    if comparison.interval is not None:
        interval = " to ".join(f"{'+' if end > 0 else ''}{readable(end)}" for end in comparison.interval)
    return [
        comparison.label,
        readable(comparison.before),
        readable(comparison.after),
        f"{comparison.ratio:.3f}" if has_ratio else "–",
        f"{comparison.ratio - 1:+.1%}" if has_ratio else "–",
        interval,
        verdict_text(comparison),
    ]


def verdict_text(comparison: Comparison) -> str:
    """Return the verdict in plain words."""
    good, bad = ("fewer", "more") if comparison.name == "failed" else ("faster", "slower")
    return {"better": good, "worse": bad, "no clear difference": "no clear difference"}[comparison.verdict]


def _distribution_charts(before: BenchResult, after: BenchResult, names: tuple[str, str]) -> Iterator[str]:
    first, second = latency_samples_ms(before.records), latency_samples_ms(after.records)
    for name, label in LATENCIES.items():
        if len(first[name]) > 1 and len(second[name]) > 1:
            samples = dict(zip((f"before: {names[0]}", f"after: {names[1]}"), (first[name], second[name]), strict=True))
            axis = latency_axis(label, list(samples.values()))
            yield cdf_chart(samples, title=label, x=axis, width=560, height=340)
