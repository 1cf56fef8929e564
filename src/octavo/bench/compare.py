"""Two results side by side: what changed, by how much, and whether the difference is more than noise.

The intervals come from the requests of the two runs. They say how well each run knows its own percentiles; they do not
know how much two runs of the same thing differ from one day to the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from octavo.bench.bootstrap import Sample, difference_interval
from octavo.bench.html_report import LATENCIES, latency_samples_ms
from octavo.bench.records import BenchResult, RequestRecord
from octavo.bench.summary import Summary

Verdict = Literal["better", "worse", "no clear difference"]

NOISE = 0.05
"""Change of a figure without an interval that counts as none."""

MIN_CHANGE = 0.01
"""Change that counts as none even if its interval excludes 0: no machine repeats itself better than that."""

_MIN_VALUES = 5
_PERCENTILES = (50, 90, 95, 99)
_HIGHER_IS_BETTER = {
    "request_throughput": "Requests/s",
    "output_throughput": "Output tokens/s",
    "total_throughput": "Tokens/s, input and output",
    "goodput": "Goodput, requests/s",
}
_VOLATILE = frozenset({"load_average", "client"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of two results.

    Attributes:
        before, after: of the first result and of the second.
        lower_is_better: as for latencies; else higher is.
        interval: 95 % confidence interval of ``after - before``; None where a run has one number only.
    """

    name: str
    label: str
    before: float
    after: float
    lower_is_better: bool
    interval: tuple[float, float] | None = None

    @property
    def ratio(self) -> float:
        """``after / before``: 1 if both are 0."""
        if self.before:
            return self.after / self.before
        return math.inf if self.after else 1.0

    @property
    def worsening(self) -> float:
        """Part by which the figure got worse: 0.1 is 10 % slower; negative if it got better."""
        change = self.ratio - 1
        return change if self.lower_is_better else -change

    @property
    def verdict(self) -> Verdict:
        """Whether the difference is clear: more than 1 % and its interval excludes 0, or without one more than 5 %."""
        if self.interval is not None:
            low, high = self.interval
            is_clear = (low > 0 or high < 0) and abs(self.worsening) > MIN_CHANGE
        else:
            is_clear = abs(self.worsening) > NOISE
        if not is_clear:
            return "no clear difference"
        return "worse" if (self.after > self.before) == self.lower_is_better else "better"


def compare(before: BenchResult, after: BenchResult, *, seed: int = 0) -> list[Comparison]:
    """Compare every figure that both results have.

    Args:
        seed: of the resampling: the same seed gives the same intervals.
    """
    return [*_compare_rates(before.summary, after.summary), *_compare_latencies(before, after, seed)]


def regressions(comparisons: Sequence[Comparison], limit: float) -> list[Comparison]:
    """Return the figures that clearly got worse by more than a part of ``limit``."""
    return [each for each in comparisons if each.verdict == "worse" and each.worsening > limit]


def explain_regression(comparison: Comparison, limit: float) -> str:
    """Say by how much a figure got worse, and how much is allowed."""
    change = f"worse by {comparison.worsening:.1%}" if math.isfinite(comparison.worsening) else "there were none"
    values = f"{comparison.before:.4g} before, {comparison.after:.4g} after"
    return f"{comparison.label}: {values}: {change}, allowed are {limit * 100:g}%"


def different_settings(before: BenchResult, after: BenchResult) -> list[str]:
    """Say, a line each, in what the two tests differ; without such lines they are the same test."""

    def part(result: BenchResult) -> dict[str, Any]:
        environment = {name: value for name, value in result.environment.items() if name not in _VOLATILE}
        return {"kind": result.kind, "model": result.model, "settings": result.settings, "environment": environment}

    return list(_differences(part(before), part(after)))


def _compare_rates(before: Summary, after: Summary) -> Iterator[Comparison]:
    for name, label in _HIGHER_IS_BETTER.items():
        first, second = getattr(before, name), getattr(after, name)
        if first is not None and second is not None and (first or second):
            yield Comparison(name, label, first, second, lower_is_better=False)
    first, second = _share_of_failures(before), _share_of_failures(after)
    if first or second:
        yield Comparison("failed", "Failed requests, %", first, second, lower_is_better=True)


def _compare_latencies(before: BenchResult, after: BenchResult, seed: int) -> Iterator[Comparison]:
    samples = [_samples(result) for result in (before, after)]
    for name, label in LATENCIES.items():
        first, second = samples[0][name], samples[1][name]
        if not (first.num_draws and second.num_draws):
            continue
        has_interval = min(first.num_draws, second.num_draws) >= _MIN_VALUES
        random = np.random.default_rng(seed)
        means = float(first.values.mean()), float(second.values.mean())
        interval = difference_interval(first.means(random), second.means(random)) if has_interval else None
        yield Comparison(f"mean_{name}", f"{label}, mean, ms", *means, True, interval)
        for percent in _PERCENTILES:
            ends = float(np.percentile(first.values, percent)), float(np.percentile(second.values, percent))
            if has_interval:
                interval = difference_interval(first.percentiles(percent, random), second.percentiles(percent, random))
            yield Comparison(f"p{percent}_{name}", f"{label}, p{percent}, ms", *ends, True, interval)


def _samples(result: BenchResult) -> dict[str, Sample]:
    """Return the measured latencies; the gaps within a request resemble each other and count as one."""
    latencies = latency_samples_ms(_independent(result.kind, result.records))
    num_requests = len(latencies["e2e_ms"])
    return {name: Sample(values, min(len(values), num_requests)) for name, values in latencies.items()}


def _independent(kind: str, records: list[RequestRecord]) -> list[RequestRecord]:
    """Return the records to draw from: of an offline batch only one, since its requests are one measurement."""
    if kind not in ("throughput", "latency"):
        return records
    return list({(record.sent_at, record.finished_at): record for record in records}.values())


def _share_of_failures(summary: Summary) -> float:
    return 100 * summary.num_failed / summary.num_requests if summary.num_requests else 0.0


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        first, second = before.get(name), after.get(name)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            yield from _differences(first, second, f"{prefix}{name}.")
        elif first != second:
            yield f"{prefix}{name}: {_shown(first)} and {_shown(second)}"


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
