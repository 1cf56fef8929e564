"""Step times from data sheets: against the arithmetic by hand, and the laws that any such model must keep."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.plan.families import read_model_shape
from octavo.plan.hardware import gpu_named
from octavo.plan.roofline import RooflineStepTime
from octavo.plan.step_time import StepShape
from octavo.plan.weights import QUANTIZATIONS
from tests.plan import published_models as published

LLAMA = read_model_shape(published.LLAMA_31_8B)
LLAMA_70B = read_model_shape(published.LLAMA_31_70B)
MIXTRAL = read_model_shape(published.MIXTRAL_8X7B)
H100 = gpu_named("H100")
IDEAL = RooflineStepTime(LLAMA, H100, bandwidth_efficiency=1, flops_efficiency=1, step_overhead_s=0)
ONE_TOKEN = StepShape.of([0], [1], num_samples=1)


def decode(batch: int, length: int) -> StepShape:
    return StepShape.of([length] * batch, [1] * batch, num_samples=batch)


def test_one_token_takes_as_long_as_reading_the_weights_and_its_context() -> None:
    num_bytes = 2 * (LLAMA.num_parameters - LLAMA.vocab_size * LLAMA.hidden_size - 65 * 4096)
    num_bytes += 1001 * 131_072
    assert IDEAL.step_seconds(decode(1, 1000)) == pytest.approx(num_bytes / 3.35e12)


def test_long_prefill_takes_as_long_as_its_arithmetic() -> None:
    tokens = 8192
    matrices = 32 * (4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14_336)
    pairs = tokens * (tokens + 1) // 2
    operations = 2 * matrices * tokens + 2 * 2 * 32 * 4096 * pairs + 2 * 128_256 * 4096
    step = StepShape.of([0], [tokens], num_samples=1)
    assert IDEAL.step_seconds(step) == pytest.approx(operations / 989.5e12)


def test_mixture_reads_the_experts_that_its_tokens_are_sent_to() -> None:
    ideal = replace(IDEAL, shape=MIXTRAL)
    dense = 2 * (32 * (4096 * 6144 + 4096 * 4096) + 32_000 * 4096)
    experts = 2 * 32 * 8 * 3 * 4096 * 14_336
    for batch, share in ((1, 2 / 8), (4, 1 - (6 / 8) ** 4)):
        expected = dense + share * experts + batch * 11 * 131_072
        assert ideal.step_seconds(decode(batch, 10)) == pytest.approx(expected / 3.35e12)


def test_windows_bound_what_is_read_and_compared() -> None:
    windowed = replace(IDEAL, shape=read_model_shape(published.MISTRAL_7B_V01))
    assert windowed.step_seconds(decode(8, 30_000)) == windowed.step_seconds(decode(8, 5000))
    assert windowed.step_seconds(decode(8, 4000)) < windowed.step_seconds(decode(8, 5000))


def test_packed_weights_are_read_faster_and_eight_bit_ones_multiplied_faster() -> None:
    fp8, int4 = (replace(IDEAL, quantization=QUANTIZATIONS[name]) for name in ("fp8", "int4"))
    assert int4.step_seconds(ONE_TOKEN) < fp8.step_seconds(ONE_TOKEN) < IDEAL.step_seconds(ONE_TOKEN)
    prefill = StepShape.of([0], [4096], num_samples=1)
    assert fp8.step_seconds(prefill) < 0.6 * IDEAL.step_seconds(prefill)
    assert int4.step_seconds(prefill) == IDEAL.step_seconds(prefill)


def test_several_gpus_share_the_work_and_pay_for_their_talk() -> None:
    one = replace(IDEAL, shape=LLAMA_70B)
    four = replace(one, tensor_parallel_size=4)
    slow = replace(four, hardware=replace(H100, link_bandwidth=32e9))
    step = StepShape.of([0], [2048], num_samples=1)
    assert one.step_seconds(step) / 4 < four.step_seconds(step) < one.step_seconds(step) / 2
    # A ring sends the hidden states of 2,048 tokens one and a half times, twice in each of 80 layers.
    message = 2 * 80 * 1.5 * 2048 * 8192 * 2
    difference = message / 0.7 * (1 / 32e9 - 1 / 450e9)
    assert slow.step_seconds(step) - four.step_seconds(step) == pytest.approx(difference)


def test_estimate_is_near_what_is_published_for_well_tuned_engines() -> None:
    # gpt-fast: 104.9 tokens/s for Llama-2-7B in bfloat16 at batch size 1 on an A100-80GB.
    model = RooflineStepTime(read_model_shape(published.LLAMA_2_7B), gpu_named("A100-80GB-SXM"))
    assert 1 / model.step_seconds(decode(1, 200)) == pytest.approx(104.9, rel=0.1)


STEPS = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 500)), min_size=1, max_size=20)


@given(steps=STEPS, more=st.tuples(st.integers(0, 3000), st.integers(1, 500)))
def test_more_work_never_takes_less_time(steps: list[tuple[int, int]], more: tuple[int, int]) -> None:
    model = RooflineStepTime(MIXTRAL, H100)
    few, many = (
        StepShape.of([start for start, _ in part], [count for _, count in part], num_samples=1)
        for part in (steps, [*steps, more])
    )
    assert 0 < model.step_seconds(few) <= model.step_seconds(many)
