"""When requests come: the times of an open loop, drawn before anything is sent."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from octavo.bench.serve_settings import Arrivals


def arrival_times(
    arrivals: Arrivals, rng: np.random.Generator, *, num_requests: int | None, duration_s: float | None
) -> Iterator[float]:
    """Yield the seconds after the start at which requests come, in order and without end; the first comes at 0.

    The times between two requests are gamma-distributed with the mean 1/rate: exponential for a burstiness of 1.

    Args:
        num_requests, duration_s: the length of the test, over which a ramp-up runs; by the requests where both are
            given, as in vLLM. The rate stays at its end when the ramp is over.
    """
    at = 0.0
    for index in itertools.count():
        yield at
        progress = _progress(index, at, num_requests, duration_s)
        at += _gap(arrivals.burstiness, rng) / rate_at(arrivals, progress)


def rate_at(arrivals: Arrivals, progress: float) -> float:
    """Return the rate in requests a second when that share of the test is over."""
    start, end = arrivals.ramp_up_start_rps, arrivals.ramp_up_end_rps
    if arrivals.ramp_up_strategy is None or start is None or end is None:
        return arrivals.request_rate
    if arrivals.ramp_up_strategy == "linear":
        return start + (end - start) * progress
    return float(start * (end / start) ** progress)


def _gap(burstiness: float, rng: np.random.Generator) -> float:
    """Draw the time to the next request, as a multiple of its mean."""
    return 1.0 if math.isinf(burstiness) else float(rng.gamma(burstiness, 1 / burstiness))


def _progress(index: int, at: float, num_requests: int | None, duration_s: float | None) -> float:
    if num_requests is not None:
        return min(index / max(num_requests - 1, 1), 1.0)
    return min(at / duration_s, 1.0) if duration_s is not None else 1.0
