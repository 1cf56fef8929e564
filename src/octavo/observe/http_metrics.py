"""HTTP requests counted as vLLM's server shows them: ``http_requests_total`` and ``http_request_duration_seconds``."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from octavo.observe.histogram import Histogram

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class HTTPMetrics(Collector):
    """Counts and durations of HTTP requests. One thread writes; any may collect."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}

    def observe(self, handler: str, method: str, status: int, duration_s: float) -> None:
        """Count a request that has been answered.

        Args:
            handler: the route's pattern, never a path that a client made up: each one is a series for ever.
        """
        labels = (handler, method, f"{status // 100}xx")
        self._counts[labels] = self._counts.get(labels, 0) + 1
        histogram = self._durations.get(labels[:2])
        if histogram is None:
            histogram = self._durations[labels[:2]] = Histogram(_BUCKETS)
        histogram.observe(duration_s)

    def collect(self) -> Iterator[Metric]:
        """Yield both metrics as they are now."""
        counter = CounterMetricFamily(
            "http_requests", "HTTP requests, by route and status.", labels=("handler", "method", "status")
        )
        for count_labels, count in list(self._counts.items()):
            counter.add_metric(count_labels, count)
        yield counter
        durations = HistogramMetricFamily(
            "http_request_duration_seconds", "From a request to the end of its answer.", labels=("handler", "method")
        )
        for duration_labels, histogram in list(self._durations.items()):
            durations.add_metric(duration_labels, histogram.cumulative_buckets(), histogram.sum)
        yield durations
