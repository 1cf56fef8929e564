"""Measures what a server adds to the steps of its engine, with a few requests to a server that has nothing else to do.

What a client sees is compared with what the step times alone predict. The difference at the first token is the cost of
a request; the difference between tokens is the cost around a step, which grows with the number of sequences.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from octavo.bench.answers import Answer
from octavo.bench.calibration import Calibration, ServingOverhead
from octavo.bench.http_client import Exchange
from octavo.bench.openai_client import OpenAIClient
from octavo.bench.serve_settings import COMPLETIONS_ENDPOINT, Target
from octavo.bench.step_time_fit import nonnegative_least_squares
from octavo.errors import OctavoError
from octavo.plan.step_time import StepShape, StepTimeModel

_BATCHES = (1, 4, 8, 16, 32)
_PROMPT_LENS = (16, 512)
_OUTPUT_LEN = 48
_ROUNDS = 5
_LOWEST_TOKEN_ID, _HIGHEST_TOKEN_ID = 16, 1000  # ordinary tokens in every vocabulary


@dataclass(frozen=True, slots=True)
class Seen:
    """Medians over the answers to batches of one kind, in seconds."""

    prompt_len: int
    batch: int
    ttft_s: float
    tpot_s: float


def measure_overhead(calibration: Calibration, target: Target) -> Calibration:
    """Return a calibration with the overhead of a server that runs the measured engine.

    Args:
        target: a server of Octavo that serves nobody else meanwhile; its endpoint and options are set here.

    Raises:
        OctavoError: the server cannot be reached, or answers with an error.
    """
    asked = replace(
        target,
        endpoint=COMPLETIONS_ENDPOINT,
        temperature=0.0,
        # A token without text would not be seen.
        extra_body={**target.extra_body, "skip_special_tokens": False},
    )
    seen = asyncio.run(_measure(asked, calibration))
    return msgspec.structs.replace(calibration, overhead=fit_overhead(calibration.step_time, seen))


def fit_overhead(step_time: StepTimeModel, seen: Sequence[Seen]) -> ServingOverhead:
    """Find the overhead that explains what clients saw; no part of it is negative."""
    gaps = [one.tpot_s - _mean_decode_s(step_time, one) for one in seen]
    step_s, step_seq_s = nonnegative_least_squares(np.array([[1.0, one.batch] for one in seen]), np.array(gaps))
    alone = [one for one in seen if one.batch == 1]
    waits = [
        one.ttft_s - step_time.step_seconds(StepShape.of([0], [one.prompt_len], 1)) - step_s - step_seq_s
        for one in alone
    ]
    request_s, input_token_s = nonnegative_least_squares(
        np.array([[1.0, one.prompt_len] for one in alone]), np.array(waits)
    )
    return ServingOverhead(
        request_s=float(request_s),
        input_token_s=float(input_token_s),
        step_s=float(step_s),
        step_seq_s=float(step_seq_s),
    )


def _mean_decode_s(step_time: StepTimeModel, one: Seen) -> float:
    lengths = range(one.prompt_len, one.prompt_len + _OUTPUT_LEN - 1)
    return statistics.mean(
        step_time.step_seconds(StepShape.of([length] * one.batch, [1] * one.batch, one.batch)) for length in lengths
    )


async def _measure(target: Target, calibration: Calibration) -> list[Seen]:
    limits = calibration.limits
    longest = min(limits.max_model_len - _OUTPUT_LEN, limits.max_num_batched_tokens)
    cases = [(length, 1) for length in _PROMPT_LENS if length <= longest]
    cases += [(_PROMPT_LENS[0], batch) for batch in _BATCHES[1:] if batch <= limits.max_num_seqs]
    seen: dict[tuple[int, int], list[tuple[float, float]]] = {case: [] for case in cases}
    rng = random.Random(0)
    async with OpenAIClient(target) as client:
        model = target.model or await client.first_model()
        for number in range(_ROUNDS + 1):
            for length, batch in cases:
                asked = (_ask(client, model, rng, length) for _ in range(batch))
                latencies = await asyncio.gather(*asked)
                if number:  # the first round opens connections
                    seen[length, batch] += latencies
    return [
        Seen(length, batch, *(statistics.median(values) for values in zip(*latencies, strict=True)))
        for (length, batch), latencies in seen.items()
    ]


async def _ask(client: OpenAIClient, model: str, rng: random.Random, prompt_len: int) -> tuple[float, float]:
    """Return TTFT and TPOT of one request, in seconds."""
    prompt = [rng.randrange(_LOWEST_TOKEN_ID, _HIGHEST_TOKEN_ID) for _ in range(prompt_len)]
    exchange, answer = Exchange(), Answer()
    await client.ask(client.encode(model, prompt, _OUTPUT_LEN, ignore_eos=True), exchange, answer)
    if answer.error is not None:
        raise OctavoError(f"the server answered with an error: {answer.error_message}")
    if len(answer.chunk_times) < 2:
        raise OctavoError("the server sent its answer in one piece: tokens cannot be timed")
    duration = answer.chunk_times[-1] - answer.chunk_times[0]
    return answer.chunk_times[0] - exchange.sent_at, duration / (_OUTPUT_LEN - 1)
