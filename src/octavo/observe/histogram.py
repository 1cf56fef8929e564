"""A histogram that costs little to fill: Prometheus' buckets as plain numbers, without locks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from prometheus_client.utils import floatToGoString


class Histogram:
    """Counts observations in buckets. One thread fills it; any thread may read it.

    prometheus_client's own takes a lock and walks through all buckets at each observation, once a token here.

    Args:
        bounds: upper bounds of the buckets, ascending, each inclusive; the one up to infinity comes by itself.
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """Number of observations."""
        return sum(self._counts)

    def observe(self, value: float, times: int = 1) -> None:
        """Add a value that was seen ``times`` times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    def cumulative_buckets(self) -> list[tuple[str, float]]:
        """Return ``(upper bound, observations up to it)``, bounds as Prometheus writes them, the last ``+Inf``."""
        bounds = [floatToGoString(bound) for bound in self._bounds]  # type: ignore[no-untyped-call]
        return list(zip([*bounds, "+Inf"], map(float, accumulate(list(self._counts))), strict=True))


def buckets_1_2_5(limit: int) -> list[int]:
    """Return 1, 2, 5, 10, 20, 50, … up to ``limit``: vLLM's buckets for numbers of tokens."""
    buckets = []
    power = 1
    while power <= limit:
        buckets += [step * power for step in (1, 2, 5) if step * power <= limit]
        power *= 10
    return buckets
