"""Scales, ticks and how numbers are written."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.bench.scales import Scale, log_ticks, readable, round_ticks, tick_labels

numbers = st.floats(-1e9, 1e9, allow_nan=False)
spans = st.floats(1e-3, 1e9)


def test_a_scale_maps_its_ends_and_its_middle():
    scale = Scale(10, 20, start=100, end=300)
    assert [scale(10), scale(15), scale(20)] == [100, 200, 300]


def test_a_vertical_scale_goes_upwards():
    scale = Scale(0, 1, start=200, end=0)
    assert [scale(0), scale(0.25), scale(1)] == [200, 150, 0]


def test_a_logarithmic_scale_gives_each_decade_the_same_room():
    scale = Scale(1, 1000, start=0, end=300, log=True)
    assert [scale(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])


def test_what_is_not_positive_has_no_place_on_a_logarithmic_scale():
    positions = Scale(1, 10, 0, 100, log=True).positions([0, -1, 10])
    np.testing.assert_array_equal(positions, [math.nan, math.nan, 100])


@given(numbers, spans)
def test_ticks_enclose_the_data_at_equal_round_steps(low, span):
    high = low + span
    ticks = round_ticks(low, high)
    tolerance = 1e-6 * max(abs(low), abs(high), span)
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= high - tolerance
    assert 2 <= len(ticks) <= 10
    assert np.ptp(np.diff(ticks)) <= tolerance


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 97, [0, 20, 40, 60, 80, 100]),
        (0, 1.2, [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2]),
        (0, 1.4, [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]),
        (-3, 3, [-3, -2, -1, 0, 1, 2, 3]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_ticks_are_values_that_people_would_choose(low, high, expected):
    assert round_ticks(low, high) == expected


@given(st.floats(1e-6, 1e6), st.floats(1, 1e6))
def test_logarithmic_ticks_enclose_the_data(low, factor):
    ticks = log_ticks(low, low * factor)
    assert ticks[0] <= low * (1 + 1e-6)
    assert ticks[-1] >= low * factor * (1 - 1e-6)
    assert ticks == sorted(set(ticks))
    assert len(ticks) >= 2


def test_logarithmic_ticks_are_few_in_a_wide_range_and_have_2_and_5_in_a_narrow_one():
    assert log_ticks(3, 400) == [2, 5, 10, 20, 50, 100, 200, 500]
    assert log_ticks(0.01, 1e4) == pytest.approx([0.01, 0.1, 1, 10, 100, 1000, 10000])


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0, 0.5, 1], ["0.0", "0.5", "1.0"]),
        ([0, 500, 1000], ["0", "500", "1,000"]),
        ([0, 25_000, 50_000], ["0", "25k", "50k"]),
        ([0, 12_500_000], ["0.0", "12.5M"]),
        ([], []),
    ],
)
def test_tick_labels_are_short_and_alike(ticks, labels):
    assert tick_labels(ticks) == labels


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (4.567, "4.57"), (45.67, "45.7"), (1234.5, "1,234"), (math.inf, "inf")],
)
def test_numbers_are_written_with_three_digits(value, text):
    assert readable(value) == text
