"""``octavo bench serve`` as a function: ask a server as the settings say, and return what came of it."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import itertools
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from octavo.bench.arrivals import arrival_times
from octavo.bench.client_lag import LoopMonitor, lag_warnings
from octavo.bench.load import Load, Outcome
from octavo.bench.machine import describe_machine
from octavo.bench.openai_client import OpenAIClient
from octavo.bench.progress import INTERVAL_S, OnProgress, Progress, ProgressMeter
from octavo.bench.prompts import PromptMaker, TokenCounter, make_counter, make_prompt_maker
from octavo.bench.records import BenchResult
from octavo.bench.serve_settings import Arrivals, ServeSettings, Target, Workload
from octavo.bench.summary import summarize
from octavo.bench.token_audit import TokenAudit
from octavo.bench.words import WORDS
from octavo.bench.workloads import Conversations, make_conversations
from octavo.errors import OctavoError
from octavo.version import __version__

__all__ = ["Arrivals", "OnProgress", "Progress", "ServeSettings", "Target", "Workload", "run_serve_benchmark"]

_TEST_STREAM, _WARMUP_STREAM, _ARRIVAL_STREAM = 0, 1, 2
_MOST_WARMUPS_AT_ONCE = 8
_GPU_MEMORY_INTERVAL_S = 1.0
_SECRETS = ("api_key", "headers")


def run_serve_benchmark(settings: ServeSettings, on_progress: OnProgress | None = None) -> BenchResult:
    """Run one load test.

    An interrupt (Ctrl-C) during the test ends it early: the result has the requests that were over, and says so.
    Requests that fail are part of the result; that all of them failed is, too.

    Args:
        on_progress: called four times a second.

    Raises:
        ConfigError: a file of the workload, the tokenizer or the URL is wrong.
        OctavoError: the server cannot be reached or asked at all, before the test began.
    """
    uvloop = importlib.import_module("uvloop") if importlib.util.find_spec("uvloop") else None
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop if uvloop else None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_run(settings, on_progress or (lambda progress: None)))


@dataclass(frozen=True, slots=True)
class _Test:
    """What is known before the first request that counts."""

    settings: ServeSettings
    client: OpenAIClient
    model: str
    count: TokenCounter | None
    maker: PromptMaker
    on_progress: OnProgress

    def conversations(self, stream: int, max_requests: int | None) -> Conversations:
        settings = self.settings
        seed = (settings.seed, stream)
        return make_conversations(settings.workload, self.maker, seed=seed, max_requests=max_requests)

    def load(self, conversations: Conversations, on_outcome: Callable[[Outcome], None]) -> Load:
        ignore_eos = self.settings.target.ignore_eos
        return Load(
            self.client,
            self.model,
            conversations.sets_output_length if ignore_eos is None else ignore_eos,
            on_outcome=on_outcome,
        )


async def _run(settings: ServeSettings, on_progress: OnProgress) -> BenchResult:
    _raise_open_files_limit()
    target = settings.target
    async with OpenAIClient(target) as client:
        model = target.model or await client.first_model()
        count = await make_counter(client, model, target.tokenizer)
        maker = await _make_prompt_maker(settings, client, model, count)
        test = _Test(settings, client, model, count, maker, on_progress)
        conversations = test.conversations(_TEST_STREAM, settings.max_requests)
        if settings.num_warmups:
            await _warm_up(test)
        return await _measure(test, conversations)


async def _make_prompt_maker(
    settings: ServeSettings, client: OpenAIClient, model: str, count: TokenCounter | None
) -> PromptMaker:
    name, is_chat = settings.workload.dataset_name, settings.target.is_chat
    if name == "jsonl":
        return PromptMaker(WORDS, is_chat, method="as in the file")
    # Between the turns of a conversation there are answers, which come as text.
    as_token_ids = not is_chat and name != "multi-turn"
    return await make_prompt_maker(client, model, count, is_chat=is_chat, as_token_ids=as_token_ids)


async def _warm_up(test: _Test) -> None:
    settings = test.settings
    conversations = test.conversations(_WARMUP_STREAM, settings.num_warmups)
    meter = ProgressMeter("warm-up", settings.num_warmups, None)
    load = test.load(conversations, meter.add)
    load.max_concurrency = min(settings.arrivals.max_concurrency or _MOST_WARMUPS_AT_ONCE, settings.num_warmups)
    async with _background(_report(meter, load, test.on_progress)):
        await load.run_closed(conversations.items)
    if all(record.error is not None for record in load.records):
        first = load.records[0]
        raise OctavoError(f"all warm-up requests failed; the first one: {first.error}: {first.error_message}")


async def _measure(test: _Test, conversations: Conversations) -> BenchResult:
    settings = test.settings
    meter = ProgressMeter("test", conversations.num_requests, settings.duration_s)
    audit = TokenAudit(
        prompts_are_exact=test.maker.is_exact,
        answers_are_exact=False,
        prompts_are_whole=settings.workload.dataset_name != "multi-turn",
        count=test.count,
    )

    def take(outcome: Outcome) -> None:
        meter.add(outcome)
        audit.add(outcome)

    load = test.load(conversations, take)
    load.max_concurrency, load.duration_s = settings.arrivals.max_concurrency, settings.duration_s
    audit.answers_are_exact = load.ignore_eos
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    gpu_memory = _GpuMemory()
    is_interrupted = False
    with _without_garbage_collection():
        monitor = LoopMonitor()
        async with _background(monitor.watch(), _report(meter, load, test.on_progress), gpu_memory.watch(test.client)):
            try:
                await _drive(load, settings, conversations)
            except asyncio.CancelledError:
                is_interrupted = True
        lag = monitor.report(load.send_lags_s)
    test.on_progress(meter.progress(load))
    records = sorted(load.records, key=lambda record: record.index)
    summary = summarize(records, settings.slo)
    summary.gpu_memory_used_bytes = gpu_memory.most_bytes
    interrupted = [
        f"the test was interrupted: {load.num_under_way} requests that were under way are left out"
    ] * is_interrupted
    unsent = [
        f"{load.num_unsent} requests that were due were not sent: the time was over, or an earlier turn had failed"
    ] * bool(load.num_unsent)
    return BenchResult(
        kind="serve",
        created_at=created_at,
        octavo_version=__version__,
        target=settings.target.base_url,
        model=test.model,
        settings={**flat_settings(settings), "model": test.model, "ignore_eos": load.ignore_eos},
        environment={
            **describe_machine(),
            "prompts": test.maker.method,
            "client": msgspec.to_builtins(lag),
        },
        summary=summary,
        records=records,
        warnings=[
            *interrupted,
            *conversations.warnings,
            *unsent,
            *lag_warnings(lag, summary.ttft_ms.p50 if summary.ttft_ms else None),
            *await audit.warnings(),
        ],
    )


async def _drive(load: Load, settings: ServeSettings, conversations: Conversations) -> None:
    arrivals = settings.arrivals
    if settings.workload.dataset_name == "trace":
        trace = list(conversations.items)
        await load.run_open(trace, iter([conversation.arrival_s or 0.0 for conversation in trace]))
    elif arrivals.is_open:
        rng = np.random.default_rng((settings.seed, _ARRIVAL_STREAM))
        num_requests = conversations.num_requests
        times = arrival_times(arrivals, rng, num_requests=num_requests, duration_s=settings.duration_s)
        await load.run_open(conversations.items, times)
    elif arrivals.max_concurrency is not None:
        await load.run_closed(conversations.items)
    else:
        await load.run_open(conversations.items, itertools.repeat(0.0))


async def _report(meter: ProgressMeter, load: Load, on_progress: OnProgress) -> None:
    while True:
        on_progress(meter.progress(load))
        await asyncio.sleep(INTERVAL_S)


@dataclass(slots=True)
class _GpuMemory:
    """The most memory that the server's GPUs used while it was watched; None if the server does not say."""

    most_bytes: int | None = None

    async def watch(self, client: OpenAIClient) -> None:
        """Ask again and again, if there is an answer at all."""
        while (used := await client.gpu_memory_used_bytes()) is not None:
            self.most_bytes = max(used, self.most_bytes or 0)
            await asyncio.sleep(_GPU_MEMORY_INTERVAL_S)


@asynccontextmanager
async def _background(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines beside a block and cancel them at its end."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep the collector of cycles from stopping the client in the middle of a test."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _raise_open_files_limit() -> None:
    """Allow as many connections as the system lets this process have."""
    with suppress(ImportError, OSError, ValueError):  # not on Windows; some systems refuse their own maximum
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def flat_settings(settings: ServeSettings) -> dict[str, Any]:
    """Return the settings by name, ready for JSON; those that are not set, keys and headers are left out."""
    flat: dict[str, Any] = {}
    for part in (settings.target, settings.workload, settings.arrivals, settings):
        for one in fields(part):
            value = getattr(part, one.name)
            if one.name not in _SECRETS and not is_dataclass(value) and value not in (None, {}):
                flat[one.name] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, Path):
        return str(value)
    return msgspec.to_builtins(value)
