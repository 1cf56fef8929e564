"""Our histogram beside prometheus_client's own."""

from __future__ import annotations

from collections.abc import Iterator

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from octavo.observe.histogram import Histogram, buckets_1_2_5

BOUNDS = (0.005, 0.1, 1, 2.5, 1000000)


class _Exposed(Collector):
    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily("h", "help", labels=("a",))
        family.add_metric(["b"], self._histogram.cumulative_buckets(), self._histogram.sum)
        yield family


@given(st.lists(st.tuples(st.sampled_from([*BOUNDS, 0.0, 0.05, 3e6]) | st.floats(0, 5), st.integers(1, 4))))
def test_it_shows_what_prometheus_own_histogram_shows(observations: list[tuple[float, int]]):
    ours, registry = Histogram(BOUNDS), CollectorRegistry()
    theirs = prometheus_client.Histogram("h", "help", ["a"], buckets=BOUNDS, registry=registry).labels("b")
    for value, times in observations:
        ours.observe(value, times)
        for _ in range(times):
            theirs.observe(value)
    our_registry = CollectorRegistry()
    our_registry.register(_Exposed(ours))
    shown, expected = (
        [line for line in generate_latest(each).decode().splitlines() if "_created" not in line]
        for each in (our_registry, registry)
    )
    our_sum, their_sum = (
        next(float(line.split()[1]) for line in lines if line.startswith("h_sum")) for lines in (shown, expected)
    )
    assert our_sum == pytest.approx(their_sum)
    assert sorted(line for line in shown if "h_sum" not in line) == sorted(
        line for line in expected if "h_sum" not in line
    )
    assert ours.count == sum(times for _, times in observations)


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, [1]), (4, [1, 2]), (5, [1, 2, 5]), (100, [1, 2, 5, 10, 20, 50, 100])]
)
def test_buckets_for_tokens_are_the_1_2_5_series(limit: int, expected: list[int]):
    assert buckets_1_2_5(limit) == expected
