"""The formula of fitted step times: interpolation, extrapolation, and the sum of its parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.plan.calibrated_step_time import CalibratedStepTime, Curve
from octavo.plan.step_time import StepShape

CURVE = Curve((1, 4, 8), (10.0, 40.0, 60.0))


@given(st.floats(1, 8))
def test_between_knots_it_is_what_numpy_interpolates(number: float) -> None:
    assert CURVE.at(number) == pytest.approx(np.interp(number, CURVE.knots, CURVE.seconds))


def test_beyond_the_last_knot_it_goes_on_with_the_last_slope() -> None:
    assert CURVE.at(12) == 80.0
    assert Curve((1, 2), (5.0, 3.0)).at(100) == 3.0  # but never falls


def test_below_the_first_knot_it_is_constant() -> None:
    assert CURVE.at(0) == 10.0


def test_a_step_is_the_sum_of_its_parts() -> None:
    model = CalibratedStepTime(
        tokens=Curve((1, 100), (1.0, 100.0)),
        samples=Curve((0, 10), (0.0, 5.0)),
        contexts=Curve((1, 101), (0.0, 10.0)),
        spreads=Curve((1, 101), (0.0, 1.0)),
        per_prefill_seq_s=3.0,
        per_attention_pair_s=0.01,
    )
    # Two decodes at lengths 41 and 61, and a prompt of 30: mean length 44, spread 20 / 51.
    step = StepShape.of([40, 60, 0], [1, 1, 30], num_samples=2)
    pairs = 41 + 61 + 465
    per_seq = 4.3 + (20 / 51) * 0.43
    assert model.step_seconds(step) == pytest.approx(32.0 + 1.0 + 3 * per_seq + 3.0 + 0.01 * pairs)


@pytest.mark.parametrize(
    ("starts", "counts", "num_prefill_seqs", "spread"),
    [
        ([9], [1], 0, 0.0),
        ([9, 9], [1, 1], 0, 0.0),
        ([9, 19, 0], [1, 1, 50], 1, 10 / 15),
        ([0, 999], [1, 1], 0, 1.0),
        ([0, 16], [4, 4], 2, 0.0),
    ],
)
def test_a_step_knows_its_prompts_and_how_unequal_its_decodes_are(
    starts: list[int], counts: list[int], num_prefill_seqs: int, spread: float
) -> None:
    step = StepShape.of(starts, counts, num_samples=1)
    assert step.num_prefill_seqs == num_prefill_seqs
    assert step.context_spread == pytest.approx(spread)
