"""``octavo bench throughput`` and ``octavo bench latency``: an engine in this process, without a server.

Prompts are random token ids, the same for the same seed; every request generates its whole output length.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from octavo.bench.decode_traffic import DecodeTraffic, decode_traffic, device_and_dtype
from octavo.bench.machine import describe_machine
from octavo.bench.records import BenchResult, RequestRecord
from octavo.bench.summary import Distribution, distribution, summarize
from octavo.engine.sampling_params import SamplingParams
from octavo.errors import ConfigError
from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.engine.llm import LLM
    from octavo.engine.outputs import RequestOutput
    from octavo.engine.request_builder import Prompt

_TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputSettings:
    """One batch of requests, all given to the engine at once. Lengths are in tokens."""

    input_len: int = 1024
    output_len: int = 128
    num_prompts: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        _require_positive(self, "input_len", "output_len", "num_prompts")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySettings:
    """One batch again and again, each time with new prompts. Lengths are in tokens.

    Attributes:
        num_iters_warmup: batches before those that count.
    """

    input_len: int = 32
    output_len: int = 128
    batch_size: int = 8
    num_iters_warmup: int = 10
    num_iters: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        _require_positive(self, "input_len", "output_len", "batch_size", "num_iters")
        if self.num_iters_warmup < 0:
            raise ConfigError(f"--num-iters-warmup must be at least 0, not {self.num_iters_warmup}")


@dataclass(frozen=True, slots=True)
class LatencyRun:
    """What came of a latency test.

    Attributes:
        batch_ms: how long a batch takes.
        prefill_s: median seconds of a batch whose outputs are one token long.
        traffic: what the decode steps read from memory; None if the outputs have a single token.
    """

    result: BenchResult
    batch_ms: Distribution
    prefill_s: float
    traffic: DecodeTraffic | None


def run_throughput_benchmark(llm: LLM, settings: ThroughputSettings, *, show_progress: bool = False) -> BenchResult:
    """Let an engine answer a batch of requests as fast as it can.

    The answers come all at once, so that every record has the same times.

    Raises:
        ConfigError: the model's greatest length is below that of a request.
    """
    _check_lengths(llm, settings.input_len, settings.output_len)
    random = np.random.default_rng(settings.seed)
    llm.generate(_prompts(llm, random, 1, settings.input_len), _params(2), use_tqdm=False)  # what happens only once
    prompts = _prompts(llm, random, settings.num_prompts, settings.input_len)
    started = time.perf_counter()
    outputs = llm.generate(prompts, _params(settings.output_len), use_tqdm=show_progress)
    duration = time.perf_counter() - started
    return _result("throughput", llm, asdict(settings), _records(outputs, 0.0, duration, first_index=0))


def run_latency_benchmark(
    llm: LLM, settings: LatencySettings, on_progress: Callable[[int, int], None] | None = None
) -> LatencyRun:
    """Measure how long an engine takes for a batch, many times.

    A few more batches with outputs of one token tell how much of it is prefill.

    Args:
        on_progress: called after each batch with the number of batches done, and that of all.

    Raises:
        ConfigError: the model's greatest length is below that of a request, or the batch exceeds ``max_num_seqs``.
    """
    _check_lengths(llm, settings.input_len, settings.output_len)
    if settings.batch_size > llm.config.max_num_seqs:
        raise ConfigError(
            f"a batch of {settings.batch_size} does not run at once: the engine takes {llm.config.max_num_seqs} "
            "sequences. Use a smaller --batch-size or a larger --max-num-seqs."
        )
    random = np.random.default_rng(settings.seed)
    num_prefills = max(3, settings.num_iters // 5)
    total = settings.num_iters_warmup + num_prefills + settings.num_iters
    done = 0

    def run_batch(output_len: int) -> tuple[list[RequestOutput], float, float]:
        nonlocal done
        prompts = _prompts(llm, random, settings.batch_size, settings.input_len)
        params = _params(output_len)
        started = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        ended = time.perf_counter()
        done += 1
        if on_progress is not None:
            on_progress(done, total)
        return outputs, started, ended

    for _ in range(settings.num_iters_warmup):
        run_batch(settings.output_len)
    prefills = [run_batch(1) for _ in range(num_prefills)]
    batches = [run_batch(settings.output_len) for _ in range(settings.num_iters)]
    origin = batches[0][1]
    records: list[RequestRecord] = []
    for outputs, started, ended in batches:
        records += _records(outputs, started - origin, ended - origin, first_index=len(records))

    durations = [ended - started for _, started, ended in batches]
    batch_ms = distribution(durations)
    assert batch_ms is not None  # there is at least one batch
    prefill = statistics.median(ended - started for _, started, ended in prefills)
    decode = statistics.median(durations) - prefill
    traffic = None
    if settings.output_len > 1 and decode > 0:
        step_s = decode / (settings.output_len - 1)
        traffic = decode_traffic(llm, settings.batch_size, settings.input_len, settings.output_len, step_s=step_s)
    return LatencyRun(_result("latency", llm, asdict(settings), records), batch_ms, prefill, traffic)


def _prompts(llm: LLM, random: np.random.Generator, num_prompts: int, input_len: int) -> list[Prompt]:
    return list(random.integers(0, llm.model_config.vocab_size, (num_prompts, input_len)).tolist())


def _params(output_len: int) -> SamplingParams:
    return SamplingParams(temperature=_TEMPERATURE, max_tokens=output_len, ignore_eos=True)


def _records(outputs: list[RequestOutput], started: float, ended: float, *, first_index: int) -> list[RequestRecord]:
    return [
        RequestRecord(
            index=first_index + place,
            scheduled_at=started,
            sent_at=started,
            finished_at=ended,
            input_tokens=len(output.prompt_token_ids),
            output_tokens=sum(len(completion.token_ids) for completion in output.outputs),
            cached_tokens=output.num_cached_tokens,
        )
        for place, output in enumerate(outputs)
    ]


def _result(
    kind: Literal["throughput", "latency"], llm: LLM, settings: dict[str, Any], records: list[RequestRecord]
) -> BenchResult:
    device, dtype = device_and_dtype(llm)
    return BenchResult(
        kind=kind,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        octavo_version=__version__,
        target=llm.config.model,
        model=llm.config.model,
        settings={**settings, "engine": llm.config.model_dump(exclude_defaults=True)},
        environment={**describe_machine(), "device": str(device), "dtype": str(dtype).removeprefix("torch.")},
        summary=summarize(records),
        records=records,
    )


def _check_lengths(llm: LLM, input_len: int, output_len: int) -> None:
    if input_len + output_len > llm.max_model_len:
        raise ConfigError(
            f"--input-len {input_len} and --output-len {output_len} together exceed the model's greatest length of "
            f"{llm.max_model_len} tokens"
        )


def _require_positive(settings: object, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(settings, name)}")
