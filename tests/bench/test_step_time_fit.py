"""Fitting step times: the solver beside scipy's, and numbers that are found again."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from octavo.bench.step_time_fit import MeasuredStep, fit_quality, fit_step_time, nonnegative_least_squares
from octavo.errors import ConfigError
from octavo.plan.step_time import StepShape


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 8))
def test_the_solver_agrees_with_scipy(seed: int, num_rows: int, num_unknowns: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, target = rng.normal(size=(num_rows, num_unknowns)), rng.normal(size=num_rows)
    solution = nonnegative_least_squares(matrix, target)
    _, residual = scipy.optimize.nnls(matrix, target)
    assert (solution >= 0).all()
    assert np.linalg.norm(matrix @ solution - target) == pytest.approx(residual, abs=1e-8)


def true_seconds(step: StepShape) -> float:
    """A machine whose matrix products have a step between 4 and 8 rows, and on which attention is linear."""
    matrix = float(np.interp(step.num_tokens, (1, 4, 8, 64, 512), (10, 12, 30, 60, 400)))
    return 1e-3 * (matrix + 0.5 * step.num_samples + 0.002 * step.num_context_tokens + 3e-5 * step.num_attention_pairs)


def make_steps(noise: float) -> list[MeasuredStep]:
    rng = np.random.default_rng(0)
    shapes = [
        StepShape.of([context] * batch, [1] * batch, batch)
        for batch in (1, 2, 4, 6, 8, 16, 32, 64)
        for context in (50, 200, 1000)
    ]
    shapes += [
        StepShape.of([0], [count], samples) for count in (2, 4, 8, 16, 32, 64, 128, 256, 512) for samples in (0, 1)
    ]
    shapes += [StepShape.of([start], [count], 1) for start, count in ((500, 64), (1000, 256), (2000, 512))]
    return [MeasuredStep(shape, true_seconds(shape) * float(np.exp(rng.normal(0, noise)))) for shape in shapes]


def test_unseen_steps_are_predicted() -> None:
    model = fit_step_time(make_steps(noise=0.0))
    for batch in (1, 3, 5, 7, 12, 24, 48):
        for context in (100, 600):
            step = StepShape.of([context] * batch, [1] * batch, batch)
            assert model.step_seconds(step) == pytest.approx(true_seconds(step), rel=0.05)
    for count in (16, 48, 200):
        step = StepShape.of([300], [count], 1)
        assert model.step_seconds(step) == pytest.approx(true_seconds(step), rel=0.1)


def test_noise_is_averaged_and_reported() -> None:
    steps = make_steps(noise=0.05)
    model = fit_step_time(steps)
    quality = fit_quality(model, steps)
    assert 0.001 < quality.median_error < 0.06
    assert quality.median_error <= quality.p90_error <= quality.max_error
    assert quality.num_steps == len(steps)
    exact = fit_quality(model, make_steps(noise=0.0))
    assert exact.median_error < 0.05


def test_no_part_is_negative() -> None:
    model = fit_step_time(make_steps(noise=0.2))
    curves = (model.tokens, model.samples, model.contexts, model.spreads)
    assert min(model.per_prefill_seq_s, model.per_attention_pair_s, *(min(curve.seconds) for curve in curves)) >= 0


def test_one_kind_of_step_is_too_few() -> None:
    with pytest.raises(ConfigError, match="too few kinds of steps"):
        fit_step_time([MeasuredStep(StepShape.of([5], [1], 1), 0.1)])
