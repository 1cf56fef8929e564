"""What a model server shows at ``/metrics``, read back: counters, gauges and histograms, with quantiles as Prometheus'.

The prefix of the names does not matter: ``octavo_``, ``vllm:`` or another, it is found by a name that all have.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Buckets = Mapping[float, float]
"""Upper bound of each bucket to the number of observations up to it."""

_LANDMARK = "num_requests_running"
_SMALL_DELTA = 1e-12


@dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of a server's metrics; names are without the prefix, values are summed over all labels.

    Attributes:
        at: monotonic seconds.
        prefix: of the model server's own names; empty if it has none of them.
        series: number of label sets that were summed.
        labeled: the single values, by the name and then by their labels.
    """

    at: float
    prefix: str
    values: Mapping[str, float]
    series: Mapping[str, int]
    labeled: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]
    histograms: Mapping[str, Buckets]

    def value(self, *names: str) -> float | None:
        """Return the sum under the first of these names that is there."""
        return next((self.values[name] for name in names if name in self.values), None)

    def mean(self, *names: str) -> float | None:
        """Return the mean over label sets (the engines of a server, say) under the first name that is there."""
        return next((self.values[name] / self.series[name] for name in names if name in self.values), None)

    def buckets(self, *names: str) -> Buckets | None:
        """Return the histogram under the first of these names that is there."""
        return next((self.histograms[name] for name in names if name in self.histograms), None)

    def label_values(self, label: str) -> list[str]:
        """Return the different values of a label, like the names of the models."""
        found = (labels[label] for samples in self.labeled.values() for labels, _ in samples if label in labels)
        return list(dict.fromkeys(found))


def read_metrics(text: str, at: float) -> Scrape:
    """Read Prometheus' text format.

    Raises:
        ValueError: it is not that format.
    """
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    prefix = next((sample.name.removesuffix(_LANDMARK) for sample in samples if sample.name.endswith(_LANDMARK)), "")
    values: defaultdict[str, float] = defaultdict(float)
    labeled: defaultdict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    histograms: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for sample in samples:
        name = sample.name.removeprefix(prefix)
        if name.endswith("_bucket") and "le" in sample.labels:
            histograms[name.removesuffix("_bucket")][float(sample.labels["le"])] += sample.value
        else:
            values[name] += sample.value
            labeled[name].append((sample.labels, sample.value))
    series = {name: len(found) for name, found in labeled.items()}
    return Scrape(at, prefix, dict(values), series, dict(labeled), {k: dict(v) for k, v in histograms.items()})


def increase(old: float | None, new: float | None) -> float | None:
    """Return how much a counter grew; one that is smaller than before has started again at zero."""
    if old is None or new is None:
        return new
    return new - old if new >= old else new


def bucket_increase(old: Buckets | None, new: Buckets | None) -> Buckets | None:
    """Return the observations that a histogram got between two readings."""
    if old is None or new is None or old.keys() != new.keys() or any(new[bound] < old[bound] for bound in new):
        return new  # another server, or the same one started again
    return {bound: new[bound] - old[bound] for bound in new}


def num_observations(buckets: Buckets) -> float:
    """Return how many observations a histogram has."""
    return buckets.get(math.inf, 0.0)


def histogram_quantile(quantile: float, buckets: Buckets) -> float:
    """Estimate a quantile as PromQL's ``histogram_quantile`` does for classic histograms.

    Observations are taken to lie evenly in their bucket, and those of the first one between 0 and its bound. A quantile
    in the last bucket is the bound of the one before. See
    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile.

    Returns:
        NaN without observations, with fewer than two buckets, without one up to infinity, or for the quantile 0 if the
        first bucket is empty; -inf and +inf for quantiles below 0 and above 1.
    """
    if math.isnan(quantile):
        return math.nan
    if not 0 <= quantile <= 1:
        return math.copysign(math.inf, quantile)
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return math.nan
    counts = _made_monotonic([buckets[bound] for bound in bounds])
    if counts[-1] == 0:
        return math.nan
    rank = quantile * counts[-1]
    index = bisect_left(counts, rank, hi=len(counts) - 1)
    if index == len(bounds) - 1:
        return bounds[-2]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    if index == 0:
        return bounds[0] * (rank / counts[0]) if counts[0] else math.nan
    start, end = bounds[index - 1], bounds[index]
    return start + (end - start) * ((rank - counts[index - 1]) / (counts[index] - counts[index - 1]))


def _made_monotonic(counts: Sequence[float]) -> list[float]:
    """Take away decreases, and differences that only rounding made."""
    monotonic = [counts[0]]
    for count in counts[1:]:
        before = monotonic[-1]
        is_real = count > before and count - before > _SMALL_DELTA * (abs(count) + abs(before))
        monotonic.append(count if is_real else before)
    return monotonic
