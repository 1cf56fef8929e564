"""Thinning lines: the picture stays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from octavo.bench.downsampling import evenly_spaced, visible_points


def test_few_points_are_all_kept():
    x = np.arange(40.0)
    assert visible_points(x, x, 10).tolist() == list(range(40))


@given(st.integers(0, 2**32), st.integers(100, 3000), st.integers(2, 20))
def test_each_column_keeps_its_first_lowest_highest_and_last_point(seed, count, num_columns):
    random = np.random.default_rng(seed)
    x, y = np.sort(random.random(count)), random.normal(size=count)
    kept = visible_points(x, y, num_columns)
    if count <= 4 * num_columns:
        return
    assert len(kept) <= 4 * num_columns
    columns = np.minimum((x - x[0]) / (x[-1] - x[0]) * num_columns, num_columns - 1).astype(int)
    for column in set(columns):
        members = np.flatnonzero(columns == column)
        needed = {members[0], members[-1], members[np.argmin(y[members])], members[np.argmax(y[members])]}
        assert needed <= set(kept.tolist())


def test_a_curve_that_goes_back_keeps_its_order_and_its_ends():
    angle = np.linspace(0, 20, 10_000)
    kept = visible_points(np.cos(angle), np.sin(angle), 100)
    assert len(kept) <= 400
    assert kept.tolist() == sorted(kept.tolist())
    assert (kept[0], kept[-1]) == (0, 9_999)


def test_points_at_one_place_are_thinned_by_their_order():
    kept = visible_points(np.zeros(10_000), np.arange(10_000.0), 10)
    assert len(kept) <= 40


def test_evenly_spaced_has_both_ends():
    assert evenly_spaced(5, 10).tolist() == [0, 1, 2, 3, 4]
    chosen = evenly_spaced(1000, 10)
    assert (len(chosen), chosen[0], chosen[-1]) == (10, 0, 999)
    assert np.ptp(np.diff(chosen)) <= 1
