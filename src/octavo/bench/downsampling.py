"""Fewer points that draw the same line: a chart needs no more than a few points for each column of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def visible_points(x: NDArray[np.float64], y: NDArray[np.float64], num_columns: int) -> NDArray[np.intp]:
    """Return the indexes of the points that a line needs: first, lowest, highest and last of each column.

    That is M4 aggregation (Jugel et al., VLDB 2014), whose picture is that of all points. A line whose x goes back and
    forth is divided by the order of its points instead of by columns.
    """
    if len(x) <= 4 * num_columns:
        return np.arange(len(x))
    is_sorted = bool(np.all(np.diff(x) >= 0)) and x[-1] > x[0]
    place = (x - x[0]) / (x[-1] - x[0]) if is_sorted else np.arange(len(x)) / len(x)
    columns = np.minimum((place * num_columns).astype(np.intp), num_columns - 1)
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    ends = np.append(starts[1:], len(x))
    kept = {
        int(index)
        for start, end in zip(starts, ends, strict=True)
        for index in (start, start + np.argmin(y[start:end]), start + np.argmax(y[start:end]), end - 1)
    }
    return np.array(sorted(kept), dtype=np.intp)


def evenly_spaced(num_items: int, most: int) -> NDArray[np.intp]:
    """Return at most ``most`` indexes of ``num_items``, evenly spaced, the first and the last among them."""
    if num_items <= most:
        return np.arange(num_items)
    return np.unique(np.linspace(0, num_items - 1, most).round().astype(np.intp))
