"""Bootstrap intervals (Efron, 1979) without drawing samples, so that a million values cost no more than ten."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sample:
    """Measured values.

    Attributes:
        num_draws: size of a bootstrap sample: as many as there are values, or fewer where they are not independent.
    """

    values: NDArray[np.float64]
    num_draws: int

    def percentiles(self, percentile: float, random: np.random.Generator) -> NDArray[np.float64]:
        """Return a percentile, interpolated as numpy does, of each of 2,000 bootstrap samples.

        The place of an order statistic of n draws is that of n uniform numbers, which is known to be beta-distributed.
        """
        count = self.num_draws
        place = (count - 1) * percentile / 100
        below = math.floor(place)
        lower = random.beta(below + 1, count - below, NUM_RESAMPLES)
        low = self._at(lower)
        if place == below:
            return low
        upper = lower + (1 - lower) * random.beta(1, count - below - 1, NUM_RESAMPLES)
        return low + (place - below) * (self._at(upper) - low)

    def means(self, random: np.random.Generator) -> NDArray[np.float64]:
        """Return the mean of each of 2,000 bootstrap samples, by the central limit theorem."""
        return random.normal(self.values.mean(), self.values.std() / math.sqrt(self.num_draws), NUM_RESAMPLES)

    def _at(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values at places in [0, 1) of all values in order."""
        last = len(self.values) - 1
        ordered = np.sort(self.values)
        return ordered[np.minimum((places * len(ordered)).astype(np.intp), last)]


def difference_interval(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % percentile interval of the difference of two statistics, each of bootstrap samples."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(after - before, (tail, 1 - tail))
    return float(low), float(high)
