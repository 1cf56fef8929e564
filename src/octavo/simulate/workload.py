"""What a simulation serves: requests of a trace or made at random, and the token ids of their prompts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from octavo.bench.traces import HASH_BLOCK_TOKENS, TraceRequest
from octavo.errors import ConfigError

# Ids of tokens mean nothing here. Each range is one source, so that only what is meant to be shared is equal.
_SHARED_IDS = 2**40
_OWN_IDS = 2**50


def make_workload(
    *,
    num_prompts: int,
    input_len: int,
    output_len: int,
    range_ratio: float = 0.0,
    request_rate: float = math.inf,
    burstiness: float = 1.0,
    seed: int = 0,
) -> list[TraceRequest]:
    """Make requests with random lengths and arrival times, none of which share a prefix.

    Args:
        range_ratio: lengths are uniform in [len·(1-r), len·(1+r)]; below 1.
        request_rate: requests a second; infinite lets all come at once.
        burstiness: shape of the gamma distribution of the times between requests; 1 is a Poisson process.

    Raises:
        ConfigError: a number is out of range.
    """
    if min(num_prompts, input_len, output_len) < 1:
        raise ConfigError("a workload needs at least 1 prompt, 1 input token and 1 output token")
    if not 0 <= range_ratio < 1:
        raise ConfigError(f"the range ratio of lengths must be at least 0 and below 1, not {range_ratio:g}")
    if not (request_rate > 0 and 0 < burstiness < math.inf):
        raise ConfigError("the request rate and the burstiness must be above 0")
    rng = random.Random(seed)
    arrival_s = 0.0
    requests = []
    for _ in range(num_prompts):
        requests.append(
            TraceRequest(arrival_s, _length(rng, input_len, range_ratio), _length(rng, output_len, range_ratio))
        )
        if request_rate != math.inf:
            arrival_s += rng.gammavariate(burstiness, 1 / (request_rate * burstiness))
    return requests


def prompt_token_ids(request: TraceRequest, index: int) -> list[int]:
    """Return the prompt of the request number ``index``: equal to others where the trace says so, else its own."""
    if request.hash_ids is None:
        first = _OWN_IDS + index * 2**24
        return list(range(first, first + request.input_tokens))
    token_ids: list[int] = []
    for hash_id in request.hash_ids:
        first = _SHARED_IDS + hash_id * HASH_BLOCK_TOKENS
        token_ids += range(first, first + HASH_BLOCK_TOKENS)
    del token_ids[request.input_tokens :]
    return token_ids


def check_workload(requests: Sequence[TraceRequest], max_num_tokens: int) -> None:
    """Make sure that every request fits into a replica.

    Raises:
        ConfigError: there is no request, or one is longer than ``max_num_tokens``.
    """
    if not requests:
        raise ConfigError("there are no requests to simulate")
    longest = max(request.input_tokens + request.output_tokens for request in requests)
    if longest > max_num_tokens:
        raise ConfigError(
            f"the longest request has {longest} input and output tokens, but a replica takes {max_num_tokens} at most "
            "(its max_model_len, and what its KV cache holds)"
        )


def _length(rng: random.Random, mean: int, range_ratio: float) -> int:
    return max(1, rng.randint(math.floor(mean * (1 - range_ratio)), math.ceil(mean * (1 + range_ratio))))
