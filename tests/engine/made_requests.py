"""Requests and schedulers as the tests of the engine need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from octavo.engine.kv_cache import KVCacheManager
from octavo.engine.messages import EngineRequest
from octavo.engine.request import Request
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.scheduler import Scheduler
from octavo.engine.speculation.speculator import Speculator


def make_request(
    request_id: str,
    prompt: Sequence[int],
    *,
    max_tokens: int = 4,
    arrival: int = 0,
    priority: int = 0,
    cache_salt: str = "",
    stop_token_ids: Sequence[int] = (),
    eos_token_ids: Sequence[int] = (),
    min_tokens: int = 0,
    ignore_eos: bool = False,
) -> Request:
    """Return a request as the engine core would make it."""
    params = SamplingParams(
        stop_token_ids=list(stop_token_ids), min_tokens=min_tokens, max_tokens=None, ignore_eos=ignore_eos
    )
    message = EngineRequest(
        request_id=request_id,
        prompt_token_ids=list(prompt),
        sampling_params=params,
        max_tokens=max_tokens,
        eos_token_ids=list(eos_token_ids),
        seed=0,
        priority=priority,
        cache_salt=cache_salt,
    )
    return Request(message, arrival=arrival)


def make_scheduler(
    *,
    num_blocks: int = 32,
    block_size: int = 4,
    max_num_seqs: int = 4,
    budget: int = 16,
    prefix_caching: bool = True,
    policy: Literal["fcfs", "priority"] = "fcfs",
    speculator: Speculator | None = None,
) -> Scheduler:
    """Return a small scheduler."""
    kv_cache = KVCacheManager(num_blocks, block_size, enable_prefix_caching=prefix_caching)
    return Scheduler(
        kv_cache, max_num_seqs=max_num_seqs, max_num_batched_tokens=budget, policy=policy, speculator=speculator
    )
