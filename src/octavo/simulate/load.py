"""What a simulation is to serve, as the user describes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from octavo.bench.traces import TraceRequest, clip_trace, read_trace
from octavo.errors import ConfigError
from octavo.simulate.workload import make_workload

DEFAULT_NUM_PROMPTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A trace, or random requests if there is none.

    Attributes:
        num_prompts: requests at most; None is all of a trace, or 1000 random ones.
        request_rate: requests a second at random times; None lets all random requests come at once.
        trace_speed, trace_start_s: 2.0 replays twice as fast; seconds of the trace to leave out.
        input_len, output_len, range_ratio: of random requests.
    """

    trace: Path | None = None
    trace_speed: float = 1.0
    trace_start_s: float = 0.0
    num_prompts: int | None = None
    input_len: int = 1024
    output_len: int = 128
    range_ratio: float = 0.0
    request_rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trace is not None and self.request_rate is not None:
            raise ConfigError("a trace brings its own arrival times: use --trace-speed instead of --request-rate")


def make_requests(load: Load, max_num_tokens: int) -> tuple[list[TraceRequest], list[str]]:
    """Return the requests of a load, and what to warn of.

    Args:
        max_num_tokens: requests of a trace are shortened to it; random ones must fit.

    Raises:
        ConfigError: the trace cannot be read, or a number is out of range.
    """
    if load.trace is None:
        rate = math.inf if load.request_rate is None else load.request_rate
        requests = make_workload(
            num_prompts=load.num_prompts or DEFAULT_NUM_PROMPTS,
            input_len=load.input_len,
            output_len=load.output_len,
            range_ratio=load.range_ratio,
            request_rate=rate,
            seed=load.seed,
        )
        return requests, []
    read = read_trace(load.trace, start_s=load.trace_start_s, max_requests=load.num_prompts, speed=load.trace_speed)
    requests, num_clipped = clip_trace(read, max_num_tokens)
    if not num_clipped:
        return requests, []
    return requests, [
        f"{num_clipped:,} of {len(requests):,} requests of the trace were shortened to the {max_num_tokens:,} tokens "
        "that a replica takes"
    ]
