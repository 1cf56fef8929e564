"""Speed of a busy replica from the duration of its steps."""

from __future__ import annotations

import pytest

from octavo.plan.speed import estimate_speed
from octavo.plan.step_time import StepShape


class RecordingModel:
    """Takes 1 ms a token and 10 ms a step, and keeps the steps that it was asked about."""

    def __init__(self) -> None:
        self.steps: list[StepShape] = []

    def step_seconds(self, step: StepShape) -> float:
        self.steps.append(step)
        return 0.010 + 0.001 * step.num_tokens


def test_prefill_is_cut_into_chunks_of_which_the_last_samples() -> None:
    model = RecordingModel()
    speed = estimate_speed(model, batch=1, input_len=250, output_len=2, max_num_batched_tokens=100)
    prefill, decode = model.steps[:-1], model.steps[-1]
    assert [step.num_tokens for step in prefill] == [100, 100, 50]
    assert [step.num_samples for step in prefill] == [0, 0, 1]
    assert [step.num_context_tokens for step in prefill] == [100, 200, 250]
    assert speed.ttft_s == pytest.approx(0.280)
    assert (decode.num_tokens, decode.num_context_tokens) == (1, 252)


def test_throughput_counts_the_prefills_of_the_requests_that_follow() -> None:
    speed = estimate_speed(RecordingModel(), batch=20, input_len=90, output_len=11, max_num_batched_tokens=2048)
    assert speed.tpot_s == pytest.approx(0.030)
    seconds = 20 * 0.100 + 10 * 0.030
    assert speed.output_tokens_per_s == pytest.approx(20 * 11 / seconds)
    assert speed.input_tokens_per_s == pytest.approx(20 * 90 / seconds)
    assert (speed.prefill_s, speed.decode_s) == (pytest.approx(0.100), pytest.approx(0.0015))


def test_one_token_of_output_needs_no_decoding() -> None:
    speed = estimate_speed(RecordingModel(), batch=4, input_len=90, output_len=1, max_num_batched_tokens=2048)
    assert speed.output_tokens_per_s == pytest.approx(10)
