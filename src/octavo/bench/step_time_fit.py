"""Fits the formula of ``CalibratedStepTime`` to measured steps, and says how well it fits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from octavo.errors import ConfigError
from octavo.plan.calibrated_step_time import CalibratedStepTime, Curve, bracket
from octavo.plan.step_time import StepShape, StepTimeModel

Array = NDArray[np.float64]

_TOKEN_KNOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
# Few, since a decode has as many samples as tokens: what is uneven between these is left to the tokens.
_SAMPLE_KNOTS = (1, 16, 64, 256, 1024)
_CONTEXT_KNOT_RATIO = 1.5
_LINEAR_TERMS = ("num_prefill_seqs", "num_attention_pairs")
# What the steps do not decide is decided by this: the smaller sum of squared terms. Relative to a step's own time.
_RIDGE = 1e-3


class MeasuredStep(msgspec.Struct, frozen=True):
    """One kind of step, and how long it takes."""

    shape: StepShape
    seconds: float


class FitQuality(msgspec.Struct, frozen=True):
    """Distances of predicted from measured durations, relative to the measured ones."""

    num_steps: int
    median_error: float
    p90_error: float
    max_error: float


def fit_step_time(steps: Sequence[MeasuredStep]) -> CalibratedStepTime:
    """Find the numbers, none of them negative, that minimise the squared relative errors of the predictions.

    Raises:
        ConfigError: there are too few kinds of steps.
    """
    token_knots = _used_knots(_TOKEN_KNOTS, [step.shape.num_tokens for step in steps])
    sample_knots = _used_knots(_SAMPLE_KNOTS, [step.shape.num_samples for step in steps])
    if len(token_knots) < 2 or len(sample_knots) < 2:
        raise ConfigError(
            "too few kinds of steps were measured for a calibration: the batches and contexts do not fit in the KV "
            "cache, or are not allowed by max_num_seqs and max_num_batched_tokens; raise these"
        )
    knots = _Knots(token_knots, sample_knots, _context_knots([step.shape for step in steps]))
    features = np.array([_features(step.shape, knots) for step in steps])
    seconds = np.array([step.seconds for step in steps])
    values = iter(_fit(features / seconds[:, None]).tolist())
    return CalibratedStepTime(
        tokens=Curve(knots.tokens, tuple(itertools.islice(values, len(knots.tokens)))),
        samples=Curve((0, *knots.samples), (0.0, *itertools.islice(values, len(knots.samples)))),
        contexts=Curve(knots.contexts, tuple(itertools.islice(values, len(knots.contexts)))),
        spreads=Curve(knots.contexts, tuple(itertools.islice(values, len(knots.contexts)))),
        per_prefill_seq_s=next(values),
        per_attention_pair_s=next(values),
    )


def fit_quality(model: StepTimeModel, steps: Sequence[MeasuredStep]) -> FitQuality:
    """Compare predictions with measured steps, those that the fit has seen or others."""
    errors = [abs(model.step_seconds(step.shape) - step.seconds) / step.seconds for step in steps]
    median, p90 = np.percentile(errors, (50, 90))
    return FitQuality(len(steps), float(median), float(p90), max(errors))


def nonnegative_least_squares(matrix: Array, target: Array) -> Array:
    """Minimise ``|matrix @ x - target|`` over ``x >= 0``: the active-set method of Lawson and Hanson (1974, ch. 23).

    Args:
        matrix: ``[num_rows, num_unknowns]``.
        target: ``[num_rows]``.
    """
    num_unknowns = matrix.shape[1]
    x = np.zeros(num_unknowns)
    free = np.zeros(num_unknowns, dtype=bool)
    tolerance = 1e-10 * float(np.abs(matrix.T @ target).max(initial=0.0))
    for _ in range(10 * num_unknowns):
        gradient = matrix.T @ (target - matrix @ x)
        if free.all() or gradient[~free].max() <= tolerance:
            break
        free[np.argmax(np.where(free, -np.inf, gradient))] = True
        while True:
            candidate = np.zeros(num_unknowns)
            candidate[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
            blocked = free & (candidate <= 0)
            if not blocked.any():
                x = candidate
                break
            step = float((x[blocked] / (x[blocked] - candidate[blocked])).min())
            x = x + step * (candidate - x)
            free &= x > 1e-15 * float(x.max(initial=1.0))
            x[~free] = 0.0
    return x


def _fit(relative_features: Array) -> Array:
    """Solve for predictions of 1 in each row, with each unknown scaled to its typical share of a step."""
    scale = np.maximum(relative_features.max(axis=0), 1e-30)
    matrix = relative_features / scale
    num_unknowns = matrix.shape[1]
    penalty = _RIDGE * np.eye(num_unknowns)
    solution = nonnegative_least_squares(
        np.vstack([matrix, penalty]), np.concatenate([np.ones(len(matrix)), np.zeros(num_unknowns)])
    )
    unscaled: Array = solution / scale
    return unscaled


class _Knots(NamedTuple):
    tokens: tuple[int, ...]
    samples: tuple[int, ...]
    contexts: tuple[int, ...]


def _features(shape: StepShape, knots: _Knots) -> list[float]:
    """Return what each unknown is multiplied with in the prediction of a step."""
    by_context = [shape.num_seqs * weight for weight in _weights(knots.contexts, _mean_context(shape))]
    return [
        *_weights(knots.tokens, shape.num_tokens),
        *_weights((0, *knots.samples), shape.num_samples)[1:],
        *by_context,
        *(shape.context_spread * weight for weight in by_context),
        *(getattr(shape, name) for name in _LINEAR_TERMS),
    ]


def _mean_context(shape: StepShape) -> float:
    return shape.num_context_tokens / shape.num_seqs


def _weights(knots: Sequence[int], number: float) -> list[float]:
    """Return the share of each knot in the interpolated value at a number."""
    weights = [0.0] * len(knots)
    left, right, share = bracket(knots, number)
    weights[left], weights[right] = 1 - share, share
    return weights


def _context_knots(shapes: Sequence[StepShape]) -> tuple[int, ...]:
    """Return 1, and the mean lengths at which decodes were measured, as far as they are not close to each other."""
    knots = [1]
    for context in sorted(round(_mean_context(shape)) for shape in shapes if not shape.num_prefill_seqs):
        if context >= _CONTEXT_KNOT_RATIO * knots[-1]:
            knots.append(context)
    return tuple(knots) if len(knots) > 1 else (1, 2)


def _used_knots(knots: Sequence[int], numbers: Sequence[int]) -> tuple[int, ...]:
    """Return the knots at which something was measured, and the least and the greatest number above 0."""
    seen = sorted({number for number in numbers if number > 0})
    return tuple(sorted({*seen[:1], *seen[-1:], *(knot for knot in knots if knot in seen)}))
