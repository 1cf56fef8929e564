"""Arrival times have the distributions that they should have."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from octavo.bench.arrivals import arrival_times, rate_at
from octavo.bench.serve_settings import Arrivals
from octavo.errors import ConfigError


def gaps(arrivals: Arrivals, count: int = 4000) -> np.ndarray:
    times = arrival_times(arrivals, np.random.default_rng(7), num_requests=count, duration_s=None)
    return np.diff(list(itertools.islice(times, count)))


def test_gaps_of_a_poisson_process_are_exponential() -> None:
    assert stats.kstest(gaps(Arrivals(request_rate=20)), stats.expon(scale=1 / 20).cdf).pvalue > 0.01


@pytest.mark.parametrize("burstiness", [0.25, 0.5, 3.0])
def test_gaps_are_gamma_distributed_with_the_mean_of_the_rate(burstiness: float) -> None:
    found = gaps(Arrivals(request_rate=8, burstiness=burstiness))
    assert stats.kstest(found, stats.gamma(burstiness, scale=1 / (8 * burstiness)).cdf).pvalue > 0.01
    assert stats.kstest(found, stats.expon(scale=1 / 8).cdf).pvalue < 1e-6


def test_infinite_burstiness_is_regular() -> None:
    assert gaps(Arrivals(request_rate=4, burstiness=math.inf), 50) == pytest.approx(0.25)


def test_first_request_comes_at_once_and_the_same_seed_gives_the_same_times() -> None:
    def first_times() -> list[float]:
        rng = np.random.default_rng(3)
        return list(itertools.islice(arrival_times(Arrivals(request_rate=2), rng, num_requests=9, duration_s=None), 9))

    assert first_times() == first_times()
    assert first_times()[0] == 0


def test_ramp_up_goes_from_one_rate_to_the_other() -> None:
    ends = {"ramp_up_start_rps": 2.0, "ramp_up_end_rps": 32.0}
    linear = Arrivals(ramp_up_strategy="linear", burstiness=math.inf, **ends)
    exponential = Arrivals(ramp_up_strategy="exponential", **ends)
    assert [rate_at(linear, part) for part in (0, 0.5, 1)] == [2, 17, 32]
    assert [rate_at(exponential, part) for part in (0, 0.5, 1)] == pytest.approx([2, 8, 32])
    found = gaps(linear, 101)
    assert (found[0], found[50], found[99]) == pytest.approx((1 / 2, 1 / 17, 1 / 31.7))


def test_ramp_up_over_a_duration_goes_by_the_time() -> None:
    ramp = Arrivals(ramp_up_strategy="linear", burstiness=math.inf, ramp_up_start_rps=1, ramp_up_end_rps=101)
    times = list(itertools.islice(arrival_times(ramp, np.random.default_rng(), num_requests=None, duration_s=10), 700))
    assert len([at for at in times if at < 10]) == pytest.approx(510, rel=0.15)
    assert times[-1] - times[-2] == pytest.approx(1 / 101)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"request_rate": 0}, "request_rate must be above 0"),
        ({"request_rate": math.nan}, "request_rate must be above 0"),
        ({"burstiness": -1}, "burstiness must be above 0"),
        ({"max_concurrency": 0}, "max_concurrency must be at least 1"),
        ({"ramp_up_start_rps": 1}, "need a ramp_up_strategy"),
        ({"ramp_up_strategy": "cubic"}, "must be linear or exponential, not 'cubic'"),
        ({"ramp_up_strategy": "linear", "ramp_up_start_rps": 1}, "needs ramp_up_start_rps and ramp_up_end_rps"),
        ({"ramp_up_strategy": "linear", "request_rate": 3}, "leave request_rate out"),
    ],
)
def test_wrong_arrivals_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Arrivals(**fields)  # type: ignore[arg-type]
