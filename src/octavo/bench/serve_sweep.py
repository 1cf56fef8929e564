"""Sweeps of a served model: the settings of a load test at each load."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from octavo.bench.progress import OnProgress
from octavo.bench.records import BenchResult
from octavo.bench.serve import run_serve_benchmark
from octavo.bench.serve_settings import ServeSettings
from octavo.bench.sweep import Measure, Variable

DEFAULT_DURATION_S = 30.0


def settings_at(settings: ServeSettings, variable: Variable, load: float, index: int = 0) -> ServeSettings:
    """Return the settings of the test at a load.

    Without a number of requests and without a duration it takes 30 seconds.

    Args:
        settings: those that do not vary; their own rate or concurrency is replaced.
        index: which test of the sweep it is. Each has a seed of its own, or the prefix cache would know the prompts.
    """
    if variable == "max_concurrency":
        arrivals = replace(settings.arrivals, max_concurrency=int(load))
    else:
        arrivals = replace(settings.arrivals, request_rate=load)
    has_end = settings.num_prompts is not None or settings.duration_s is not None or settings.workload.reads_a_file
    return replace(
        settings,
        arrivals=arrivals,
        duration_s=settings.duration_s if has_end else DEFAULT_DURATION_S,
        seed=settings.seed + index,
    )


def make_measure(
    settings: ServeSettings,
    variable: Variable,
    *,
    on_progress: OnProgress | None = None,
    on_result: Callable[[float, BenchResult], None] | None = None,
) -> Measure:
    """Return what tests a server at a load.

    Args:
        on_progress: called four times a second.
        on_result: called with the load and the result of each test.
    """
    indexes = itertools.count()

    def measure(load: float) -> BenchResult:
        result = run_serve_benchmark(settings_at(settings, variable, load, next(indexes)), on_progress)
        if any(warning.startswith("the test was interrupted") for warning in result.warnings):
            raise KeyboardInterrupt  # a load test ends quietly at Ctrl-C, but the sweep is over, too
        if on_result is not None:
            on_result(load, result)
        return result

    return measure
