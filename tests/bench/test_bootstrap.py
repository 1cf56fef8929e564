"""The bootstrap without drawing, against scipy's, which draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from octavo.bench.bootstrap import Sample, difference_interval


@pytest.mark.parametrize("percentile", [50, 90])
@pytest.mark.parametrize("sizes", [(60, 61), (150, 200)])
def test_intervals_are_those_of_scipy(percentile, sizes):
    random = np.random.default_rng(7)
    before, after = random.lognormal(4, 0.5, sizes[0]), random.lognormal(4.2, 0.5, sizes[1])

    def difference(first, second, axis):
        return np.percentile(second, percentile, axis=axis) - np.percentile(first, percentile, axis=axis)

    expected = stats.bootstrap(
        (before, after), difference, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval

    draws = np.random.default_rng(2)
    first, second = Sample(before, len(before)), Sample(after, len(after))
    found = difference_interval(first.percentiles(percentile, draws), second.percentiles(percentile, draws))
    width = expected.high - expected.low
    assert found == pytest.approx((expected.low, expected.high), abs=0.1 * width)


def test_intervals_of_means_are_those_of_scipy():
    random = np.random.default_rng(3)
    before, after = random.exponential(10, 200), random.exponential(12, 300)
    expected = stats.bootstrap(
        (before, after),
        lambda first, second, axis: second.mean(axis=axis) - first.mean(axis=axis),
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = difference_interval(
        Sample(before, 200).means(np.random.default_rng(4)), Sample(after, 300).means(np.random.default_rng(5))
    )
    assert found == pytest.approx((expected.low, expected.high), abs=0.1 * (expected.high - expected.low))


@pytest.mark.parametrize("percentile", [0, 50, 99, 100])
def test_resampled_percentiles_are_distributed_as_if_drawn(percentile):
    values = np.random.default_rng(0).normal(size=37)
    found = Sample(values, 37).percentiles(percentile, np.random.default_rng(1))
    drawn = np.percentile(np.random.default_rng(2).choice(values, (20_000, 37)), percentile, axis=1)
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.mean(drawn < np.quantile(found, quantile)) <= quantile + 0.04
        assert np.mean(drawn <= np.quantile(found, quantile)) >= quantile - 0.04


def test_fewer_draws_make_a_wider_interval():
    values = np.random.default_rng(0).normal(size=10_000)
    few, many = (np.std(Sample(values, draws).percentiles(50, np.random.default_rng(1))) for draws in (100, 10_000))
    assert few == pytest.approx(10 * many, rel=0.2)
