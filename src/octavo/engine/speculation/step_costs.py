"""Measures what steps cost, once, when the engine starts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
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
_LEAST_ROUNDS = 3
_LEAST_S = 0.5  # of all rounds
_TURN_S = 0.003  # of one size in a round, so that most steps of a small model find their caches warm, as when decoding
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
    """Time steps in which every token is sampled from, of up to 64 tokens.

    All sizes are run by turns of some milliseconds, and each is given its median: on a machine that is faster at some
    times than at others, what they cost against each other stays right. Sizes end where three rounds would take longer
    than two seconds, but there are two at least: what is not measured is taken to go on as the last two did.

    Args:
        drafts: timed for drafts of two lengths and behind known tokens of two numbers, if given.
        max_num_tokens: of a step at most; at least 2.
    """
    sizes: list[int] = []
    steps: list[Callable[[], object]] = []
    started = clock()
    for size in _SIZES:
        if size > max_num_tokens or (len(sizes) >= 2 and _LEAST_ROUNDS * (clock() - started) > _PATIENCE_S):
            break
        sizes.append(size)
        steps.append(partial(runner.execute, _step_of(size, block_size)))
        steps[-1]()  # warms up
    if drafts is None:
        return StepCosts(sizes, _ascending(_typical_seconds(steps, clock)))
    few, many = (min(count, max_num_tokens - 1) for count in _KNOWN_TOKENS)
    draft = partial(_draft_of, drafts, block_size)
    making = [draft(1, 0), draft(_LONGER_DRAFT, 0), draft(1, few), draft(1, many)]
    for make in making:
        make()  # warms up
    *seconds, shorter, longer, after_few, after_many = _typical_seconds([*steps, *making], clock)
    per_token = max(longer - shorter, 0.0) / (_LONGER_DRAFT - 1)
    per_known_token = max(after_many - after_few, 0.0) / max(many - few, 1)
    return StepCosts(
        sizes,
        _ascending(seconds),
        seconds_to_draft=max(shorter - per_token, 0.0),
        seconds_per_draft_token=per_token,
        seconds_to_catch_up=max(after_few - shorter - few * per_known_token, 0.0),
        seconds_per_known_token=per_known_token,
    )


def _typical_seconds(parts: Sequence[Callable[[], object]], clock: Callable[[], float]) -> list[float]:
    """Return the median of the runs of each part."""
    runs: list[list[float]] = [[] for _ in parts]
    begin, num_rounds = clock(), 0
    while num_rounds < _LEAST_ROUNDS or clock() - begin < _LEAST_S:
        num_rounds += 1
        for compute, seconds in zip(parts, runs, strict=True):
            turn = clock()
            while clock() - turn < _TURN_S:
                started = clock()
                compute()
                seconds.append(clock() - started)
    return [statistics.median(seconds) for seconds in runs]


def _ascending(seconds: Sequence[float]) -> list[float]:
    """Take no step to cost less than a smaller one."""
    return list(accumulate(seconds, max))


def _draft_of(drafts: DraftModel, block_size: int, num_tokens: int, num_behind: int) -> Callable[[], object]:
    """Return what makes a draft of ``num_tokens`` tokens for which ``num_behind`` known ones must be computed first."""
    token_ids = [0] * (num_behind + 1)
    message = EngineRequest(
        request_id="", prompt_token_ids=token_ids, sampling_params=_PARAMS, max_tokens=1, eos_token_ids=[], seed=0
    )
    request = Request(message, arrival=0)
    request.block_ids = _blocks_of(len(token_ids), block_size)

    def draft() -> None:
        drafts.propose([request], [num_tokens])
        drafts.forget(request)

    return draft


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
