"""How fast a deployment answers, from the duration of its steps: time to first token, time per token, throughput."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.plan.step_time import StepShape, StepTimeModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speed of one replica that is kept busy with ``batch`` equal requests.

    Attributes:
        ttft_s: time to first token of a request that finds the replica idle.
        tpot_s: time per output token of each request while ``batch`` of them are decoded.
        output_tokens_per_s: of all requests together, prefills of those that follow included.
        input_tokens_per_s: prompt tokens taken in during the same time.
        prefill_s, decode_s: work that one request causes: its whole prefill, and its share of one decoding step.
    """

    batch: int
    input_len: int
    output_len: int
    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float
    input_tokens_per_s: float
    prefill_s: float
    decode_s: float


def estimate_speed(
    model: StepTimeModel, *, batch: int, input_len: int, output_len: int, max_num_batched_tokens: int
) -> Speed:
    """Estimate the steady state in which a new request takes the place of each that ends.

    The prefill of each request is charged in full, in chunks of ``max_num_batched_tokens``; decoding takes place at
    the mean length. Chunks that share a step with decoding make it a little faster than this in reality.
    """
    prefill_s = _prefill_seconds(model, input_len, max_num_batched_tokens)
    length = input_len + output_len // 2
    step_s = model.step_seconds(StepShape.of([length] * batch, [1] * batch, num_samples=batch))
    num_decodes = output_len - 1  # the first token comes out of the prefill
    round_s = batch * prefill_s + num_decodes * step_s
    return Speed(
        batch=batch,
        input_len=input_len,
        output_len=output_len,
        ttft_s=prefill_s,
        tpot_s=step_s,
        output_tokens_per_s=batch * output_len / round_s,
        input_tokens_per_s=batch * input_len / round_s,
        prefill_s=prefill_s,
        decode_s=step_s / batch,
    )


def _prefill_seconds(model: StepTimeModel, num_tokens: int, chunk: int) -> float:
    starts = range(0, num_tokens, chunk)
    return sum(
        model.step_seconds(
            StepShape.of([start], [min(chunk, num_tokens - start)], num_samples=int(start + chunk >= num_tokens))
        )
        for start in starts
    )
