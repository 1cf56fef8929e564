"""Measures what steps cost, once, when the engine starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from octavo.engine.messages import EngineRequest
from octavo.engine.request import Request
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.speculation.pacing import StepCosts
from octavo.engine.step import Admission, StepPlan
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from octavo.engine.core import StepRunner
    from octavo.engine.speculation.draft_model import DraftModel

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_NUM_RUNS = 3
_PATIENCE_S = 2.0
_PARAMS = SamplingParams(temperature=0.0)
_LONGER_DRAFT = 5
_KNOWN_TOKENS = (8, 64)
_FIRST_BLOCK = 1  # nobody has blocks yet, and what keys and values are does not matter here


def measure_step_costs(
    runner: StepRunner,
    drafts: DraftModel | None = None,
    *,
    block_size: int,
    max_num_tokens: int,
    clock: Callable[[], float] = time.perf_counter,
) -> StepCosts:
    """Time steps in which every token is sampled from, of up to 64 tokens, each the best of three runs.

    Stops after two seconds of such runs, with two sizes at least: what is not measured is taken to go on as the last
    two did.

    Args:
        drafts: timed for drafts of two lengths and behind known tokens of two numbers, if given.
        max_num_tokens: of a step at most; at least 2.
    """
    sizes: list[int] = []
    seconds: list[float] = []
    for size in _SIZES:
        if size > max_num_tokens or (len(sizes) >= 2 and _NUM_RUNS * sum(seconds) > _PATIENCE_S):
            break
        plan = _step_of(size, block_size)
        best = _best_seconds(partial(runner.execute, plan), clock)
        seconds.append(max(best, seconds[-1] if seconds else 0.0))
        sizes.append(size)
    if drafts is None:
        return StepCosts(sizes, seconds)
    shorter, longer = (_seconds_to_draft(drafts, length, 0, block_size, clock) for length in (1, _LONGER_DRAFT))
    per_token = max(longer - shorter, 0.0) / (_LONGER_DRAFT - 1)
    few, many = (min(count, max_num_tokens - 1) for count in _KNOWN_TOKENS)
    after_few, after_many = (_seconds_to_draft(drafts, 1, count, block_size, clock) - shorter for count in (few, many))
    per_known_token = max(after_many - after_few, 0.0) / max(many - few, 1)
    return StepCosts(
        sizes,
        seconds,
        seconds_to_draft=max(shorter - per_token, 0.0),
        seconds_per_draft_token=per_token,
        seconds_to_catch_up=max(after_few - few * per_known_token, 0.0),
        seconds_per_known_token=per_known_token,
    )


def _seconds_to_draft(
    drafts: DraftModel, num_tokens: int, num_behind: int, block_size: int, clock: Callable[[], float]
) -> float:
    """Time a draft of ``num_tokens`` tokens for which ``num_behind`` known ones must be computed first."""
    token_ids = [0] * (num_behind + 1)
    message = EngineRequest(
        request_id="", prompt_token_ids=token_ids, sampling_params=_PARAMS, max_tokens=1, eos_token_ids=[], seed=0
    )
    request = Request(message, arrival=0)
    request.block_ids = _blocks_of(len(token_ids), block_size)

    def draft() -> None:
        drafts.propose([request], [num_tokens])
        drafts.forget(request)

    return _best_seconds(draft, clock)


def _best_seconds(compute: Callable[[], object], clock: Callable[[], float]) -> float:
    compute()  # warms up
    best = float("inf")
    for _ in range(_NUM_RUNS):
        started = clock()
        compute()
        best = min(best, clock() - started)
    return best


def _step_of(num_tokens: int, block_size: int) -> StepPlan:
    admission = Admission(
        row=0,
        token_ids=[0],
        prompt_len=1,
        block_ids=_blocks_of(num_tokens, block_size),
        sampling_params=_PARAMS,
        seed=0,
        stop_token_ids=frozenset(),
    )
    drafts = {0: [0] * (num_tokens - 1)} if num_tokens > 1 else {}
    return StepPlan(admissions=[admission], drafts=drafts, rows=[0], starts=[0], counts=[num_tokens], samples=[0])


def _blocks_of(num_tokens: int, block_size: int) -> list[int]:
    return list(range(_FIRST_BLOCK, _FIRST_BLOCK + blocks_of_sequence(num_tokens, block_size)))
