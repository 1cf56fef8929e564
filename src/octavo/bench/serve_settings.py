"""The settings of a load test: whom to ask, what to ask, and when. Plain records, so that a test can be varied with
``dataclasses.replace``: a sweep over rates changes ``arrivals`` and leaves ``target`` and ``workload`` as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from octavo.errors import ConfigError, nearest_name

if TYPE_CHECKING:
    from octavo.bench.summary import Slo

DatasetName = Literal["random", "shared-prefix", "multi-turn", "jsonl", "trace"]
RampUpStrategy = Literal["linear", "exponential"]

CHAT_ENDPOINT = "/v1/chat/completions"
COMPLETIONS_ENDPOINT = "/v1/completions"
DEFAULT_NUM_PROMPTS = 1000
_DATASET_ALIASES: Mapping[str, DatasetName] = {"custom": "jsonl", "prefix_repetition": "shared-prefix"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server and how it is asked.

    Attributes:
        base_url: ``http(s)://host[:port][/path]``, with ``/v1`` at the end or without.
        model: None asks the server for the first model that it lists.
        ignore_eos: generate up to the output length whatever the model says; None does so where the workload sets
            the length. It sends ``ignore_eos`` and ``min_tokens``, which OpenAI's own API does not know.
        extra_body: further fields of every request; a field that is None here is left out of the request.
        timeout_s: for one request, from connecting to the end of the answer.
        tokenizer: directory of the model's tokenizer; None asks the server's ``/tokenize``, if it has one.
    """

    base_url: str
    model: str | None = None
    endpoint: str = CHAT_ENDPOINT
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    stream: bool = True
    ignore_eos: bool | None = None
    temperature: float | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 600.0
    tokenizer: Path | None = None

    def __post_init__(self) -> None:
        if not self.endpoint.endswith(("/chat/completions", "/completions")):
            raise ConfigError(f"endpoint {self.endpoint!r} is not one of {COMPLETIONS_ENDPOINT}, {CHAT_ENDPOINT}")
        if self.timeout_s <= 0:
            raise ConfigError(f"the timeout must be above 0 s, not {self.timeout_s:g}")

    @property
    def is_chat(self) -> bool:
        """Whether prompts are messages."""
        return self.endpoint.endswith("/chat/completions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked. Lengths are in tokens; which of them count depends on ``dataset_name``.

    Attributes:
        input_len, output_len: of ``random`` and of each turn of ``multi-turn``; ``output_len`` also of ``jsonl`` lines
            that do not say.
        range_ratio: lengths are uniform in [len·(1-r), len·(1+r)]; below 1.
        num_prefixes, prefix_len: of ``shared-prefix``: each prompt is one of the prefixes and ``input_len`` more.
        num_turns, think_time_s: of ``multi-turn``: turns of a conversation, and seconds between an answer and the
            next turn.
        dataset_path: of ``jsonl`` and ``trace``.
        trace_speed, trace_start_s: of ``trace``: 2.0 replays twice as fast; seconds of the trace to leave out.
        max_model_len: longer requests of a trace are shortened to it.
    """

    dataset_name: DatasetName = "random"
    input_len: int = 1024
    output_len: int = 128
    range_ratio: float = 0.0
    num_prefixes: int = 10
    prefix_len: int = 256
    num_turns: int = 4
    think_time_s: float = 0.0
    dataset_path: Path | None = None
    trace_speed: float = 1.0
    trace_start_s: float = 0.0
    max_model_len: int | None = None

    def __post_init__(self) -> None:
        for name in ("input_len", "output_len", "num_prefixes", "prefix_len", "num_turns"):
            _require_at_least(name, getattr(self, name), 1)
        if self.max_model_len is not None:
            _require_at_least("max_model_len", self.max_model_len, 2)
        if not 0 <= self.range_ratio < 1:
            raise ConfigError(f"the range ratio of lengths must be at least 0 and below 1, not {self.range_ratio:g}")
        if not 0 <= self.think_time_s < math.inf:
            raise ConfigError(f"the think time must be 0 s or more, not {self.think_time_s:g}")
        if self.reads_a_file and self.dataset_path is None:
            raise ConfigError(f"dataset {self.dataset_name} needs a file: name it with --dataset-path")
        if not self.reads_a_file and self.dataset_path is not None:
            raise ConfigError(f"dataset {self.dataset_name} reads no file; --dataset-path is for jsonl and trace")

    @property
    def reads_a_file(self) -> bool:
        """Whether the requests come from ``dataset_path``."""
        return self.dataset_name in ("jsonl", "trace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """When requests are sent.

    Without a rate, ``max_concurrency`` requests are always under way (closed loop); with one, requests come at that
    rate whatever the server does (open loop); with both, those that would exceed the concurrency wait. With neither
    all come at once. A trace brings its own times.

    Attributes:
        request_rate: requests (of ``multi-turn``: conversations) a second.
        burstiness: shape of the gamma distribution of the times between requests. 1 is a Poisson process, less is
            burstier, infinite is regular.
        ramp_up_strategy, ramp_up_start_rps, ramp_up_end_rps: change the rate from start to end over the test.
    """

    max_concurrency: int | None = None
    request_rate: float = math.inf
    burstiness: float = 1.0
    ramp_up_strategy: RampUpStrategy | None = None
    ramp_up_start_rps: float | None = None
    ramp_up_end_rps: float | None = None

    def __post_init__(self) -> None:
        if self.max_concurrency is not None:
            _require_at_least("max_concurrency", self.max_concurrency, 1)
        for name in ("request_rate", "burstiness"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        ends = (self.ramp_up_start_rps, self.ramp_up_end_rps)
        if self.ramp_up_strategy is None:
            if ends != (None, None):
                raise ConfigError("ramp_up_start_rps and ramp_up_end_rps need a ramp_up_strategy: linear, exponential")
            return
        if self.ramp_up_strategy not in get_args(RampUpStrategy):
            raise ConfigError(f"ramp_up_strategy must be linear or exponential, not {self.ramp_up_strategy!r}")
        if self.request_rate != math.inf:
            raise ConfigError("a ramp-up sets the rate itself: leave request_rate out")
        if not all(rate is not None and 0 < rate < math.inf for rate in ends):
            raise ConfigError("a ramp-up needs ramp_up_start_rps and ramp_up_end_rps, both above 0")

    @property
    def is_open(self) -> bool:
        """Whether requests come at a rate."""
        return self.request_rate != math.inf or self.ramp_up_strategy is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """One load test.

    Attributes:
        num_prompts: requests to send, each turn of a conversation counting; None sends all lines of a file, until
            ``duration_s`` is over, or 1000.
        duration_s: no request is sent later than this; those under way are waited for.
        num_warmups: requests sent before the test, which do not count.
        seed: of prompts, lengths and arrival times.
    """

    target: Target
    workload: Workload = field(default_factory=Workload)
    arrivals: Arrivals = field(default_factory=Arrivals)
    num_prompts: int | None = None
    duration_s: float | None = None
    num_warmups: int = 0
    seed: int = 0
    slo: Slo | None = None

    def __post_init__(self) -> None:
        if self.num_prompts is not None:
            _require_at_least("num_prompts", self.num_prompts, 1)
        _require_at_least("num_warmups", self.num_warmups, 0)
        _require_at_least("seed", self.seed, 0)
        if self.duration_s is not None and not 0 < self.duration_s < math.inf:
            raise ConfigError(f"the duration must be above 0 s, not {self.duration_s:g}")
        if self.workload.dataset_name == "trace" and self.arrivals.is_open:
            raise ConfigError("a trace brings its own arrival times: use --trace-speed instead of a request rate")
        if self.duration_s is not None and self.max_requests is None and self._sends_all_at_once:
            raise ConfigError("--duration alone would send requests without end: give --concurrency or --request-rate")

    @property
    def max_requests(self) -> int | None:
        """How many requests to send at most; None is no limit."""
        if self.num_prompts is not None or self.duration_s is not None or self.workload.reads_a_file:
            return self.num_prompts
        return DEFAULT_NUM_PROMPTS

    @property
    def _sends_all_at_once(self) -> bool:
        is_trace = self.workload.dataset_name == "trace"
        return not is_trace and not self.arrivals.is_open and self.arrivals.max_concurrency is None


def dataset_name(name: str) -> DatasetName:
    """Return the dataset of that name, vLLM's names included.

    Raises:
        ConfigError: there is none.
    """
    known = get_args(DatasetName)
    found = _DATASET_ALIASES.get(name, name)
    for valid in known:
        if found == valid:
            return valid  # type: ignore[no-any-return]
    near = nearest_name(name, known)
    hint = f"; did you mean {near}?" if near else ""
    raise ConfigError(f"there is no dataset {name!r}{hint} (datasets: {', '.join(known)})")


def _require_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} must be at least {least}, not {value}")
