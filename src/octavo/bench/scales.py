"""From values to positions in a picture: scales, round tick values, and how numbers are written beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_TOLERANCE = 0.8  # a few ticks more are better than half as many
_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps ``[low, high]`` to ``[start, end]`` (pixels), linearly or by logarithm; what is outside stays outside."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of one value."""
        return float(self.positions([value])[0])

    def positions(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the positions of values; on a logarithmic scale those that are not positive have none (NaN)."""
        array = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        if self.log:
            array = np.log10(np.where(array > 0, array, np.nan))
            low, high = math.log10(low), math.log10(high)
        return self.start + (array - low) / (high - low) * (self.end - self.start)


def round_ticks(low: float, high: float, max_ticks: int = 6) -> list[float]:
    """Return at most about ``max_ticks`` evenly spaced round values; the first and the last enclose ``[low, high]``."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = _round_step((high - low) / max(max_ticks - 1, 1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round values that enclose ``[low, high]``, both positive: 1, and in a narrow range 2 and 5, times 10ⁿ."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 3:
        return [10.0**exponent for exponent in range(first, last + 1)]
    ticks = [factor * 10.0**exponent for exponent in range(first, last + 1) for factor in (1.0, 2.0, 5.0)]
    at_most_low = max((tick for tick in ticks if tick <= low * (1 + 1e-9)), default=ticks[0])
    at_least_high = min(tick for tick in ticks if tick >= high * (1 - 1e-9) and tick > at_most_low)
    return [tick for tick in ticks if at_most_low <= tick <= at_least_high]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Write tick values alike: the same decimals for all, thousands as ``k``, millions as ``M``."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    divisor, suffix = next(((size, name) for size, name in _SUFFIXES if largest >= 10 * size), (1.0, ""))
    scaled = [tick / divisor for tick in ticks]
    decimals = next(
        (count for count in range(7) if all(math.isclose(round(v, count), v, abs_tol=1e-9) for v in scaled)), 6
    )
    return [f"{value:,.{decimals}f}{suffix if value else ''}" for value in scaled]


def log_tick_labels(ticks: Sequence[float]) -> list[str]:
    """Write the ticks of a logarithmic scale, each with as many decimals as it needs."""
    return [tick_labels([tick])[0] for tick in ticks]


def readable(value: float) -> str:
    """Write a number for people with at least three significant digits: ``0.0123``, ``4.57``, ``1,234``."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    decimals = min(2 - math.floor(math.log10(abs(value))), 6)
    return f"{value:.{decimals}f}"


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in _ROUND_STEPS if factor * power >= _TOLERANCE * least)
