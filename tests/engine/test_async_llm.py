"""The asynchronous face of the engine: streams, aborts, limits, a crash and the end, with a real engine process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import generate_latest

from octavo import LLM, AsyncLLM, RequestOutput, SamplingParams
from octavo.config import EngineConfig
from octavo.engine.messages import EngineStats
from octavo.engine.sampling_params import RequestOutputKind
from octavo.errors import EngineDeadError, ModelError, QueueFullError, RequestError
from octavo.observe.metrics import EngineMetrics
from octavo.observe.request_timing import RequestTiming
from octavo.text import Tokenizer

pytestmark = pytest.mark.asyncio(loop_scope="module")

DELTA = RequestOutputKind.DELTA
TIMEOUT_S = 60
SETTINGS: dict[str, Any] = {"kv_cache_memory_bytes": "8MiB", "cpu_threads": 1}
MAX_NUM_SEQS = 4
MAX_NUM_QUEUED_REQS = 4
ENDLESS = SamplingParams(max_tokens=None, ignore_eos=True, output_kind=DELTA)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(checkpoint: Path) -> AsyncIterator[AsyncLLM]:
    config = EngineConfig(
        model=str(checkpoint), max_num_seqs=MAX_NUM_SEQS, max_num_queued_reqs=MAX_NUM_QUEUED_REQS, **SETTINGS
    )
    llm = AsyncLLM(config, metrics=EngineMetrics("m"))
    ready = await llm.start()
    assert (ready.device, ready.dtype, ready.max_model_len) == ("cpu", "float32", 1024)
    yield llm
    await llm.shutdown()


@pytest_asyncio.fixture(loop_scope="module")
async def llm(shared: AsyncLLM) -> AsyncIterator[AsyncLLM]:
    """A ready engine, which must hold nothing when the test is over."""
    yield shared
    await until(lambda: shared.state == "ready" and is_empty(shared))


def is_empty(llm: AsyncLLM) -> bool:
    stats = llm.stats
    return (llm.num_unfinished, stats.num_running, stats.num_waiting, stats.num_used_blocks) == (0, 0, 0, 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 (counts have no event)
            await asyncio.sleep(0.005)


async def collect(llm: AsyncLLM, prompt: Any, params: SamplingParams, request_id: str) -> list[RequestOutput]:
    async with asyncio.timeout(TIMEOUT_S), aclosing(llm.generate(prompt, params, request_id)) as outputs:  # type: ignore[type-var]
        return [output async for output in outputs]


def joined_tokens(outputs: list[RequestOutput]) -> dict[int, list[int]]:
    tokens: dict[int, list[int]] = {}
    for output in outputs:
        for sequence in output.outputs:
            tokens.setdefault(sequence.index, []).extend(sequence.token_ids)
    return tokens


def metric(llm: AsyncLLM, name: str) -> float:
    assert llm._metrics is not None
    lines = generate_latest(llm._metrics.registry).decode().splitlines()
    (value,) = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"octavo_{name}{{")]
    return value


# --- The story of a request -------------------------------------------------------------------------------------------


async def test_the_story_of_a_request_has_its_times_in_order_on_one_clock(llm: AsyncLLM):
    mine = RequestTiming(time.monotonic(), time.time())
    prompt = list(range(40))
    params = SamplingParams(max_tokens=5, ignore_eos=True, output_kind=DELTA)
    for held in (0, 32):
        timing = RequestTiming(time.monotonic(), time.time())
        outputs = [output async for output in llm.generate(prompt, params, f"held {held}", timing=timing)]
        assert outputs[-1].timing is timing
        assert [output.timing for output in outputs[:-1]] == [None] * (len(outputs) - 1)
        assert (timing.num_prompt_tokens, timing.num_cached_tokens, timing.num_output_tokens) == (40, held, 5)
        moments = [mine.arrived_at, timing.arrived_at, timing.first_scheduled_at, timing.first_token_at]
        moments += [timing.last_token_at, timing.finished_at, time.monotonic()]
        assert moments == sorted(moment for moment in moments if moment is not None)
        assert [(event.kind, event.num_tokens) for event in timing.events] == [
            ("scheduled", held),
            ("prefill", 40 - held),
        ]


async def test_steps_are_counted_with_their_tokens_and_durations(llm: AsyncLLM):
    def seen() -> list[float]:
        names = ("iteration_tokens_total_sum", "iteration_tokens_total_count", "step_duration_seconds_count")
        return [metric(llm, name) for name in (*names, "engine_steps_total")]

    before = seen()
    await collect(llm, [250, 251, 252], SamplingParams(max_tokens=4, ignore_eos=True), "r")
    assert [new - old for new, old in zip(seen(), before, strict=True)] == [3 + 3, 4, 4, 4]


async def test_the_engines_process_is_known(llm: AsyncLLM, is_alive: Callable[[int], bool]):
    assert llm.engine_process_id is not None
    assert is_alive(llm.engine_process_id)


# --- A crash ----------------------------------------------------------------------------------------------------------


async def test_a_crash_ends_every_request_at_once_and_the_next_engine_gives_the_same_tokens(llm: AsyncLLM):
    params = SamplingParams(temperature=1, seed=9, max_tokens=20, ignore_eos=True, output_kind=DELTA)
    before = joined_tokens(await collect(llm, [7, 8], params, "before"))
    restarts = metric(llm, "engine_restarts_total")
    victims = [asyncio.create_task(collect(llm, [number], ENDLESS, f"v{number}")) for number in range(6)]
    await until(lambda: llm.stats.num_running == MAX_NUM_SEQS)

    send_garbage(llm)
    errors = await asyncio.wait_for(asyncio.gather(*victims, return_exceptions=True), TIMEOUT_S)
    assert [type(error) for error in errors] == [EngineDeadError] * 6
    assert all("DecodeError" in str(error) for error in errors)
    assert llm.state == "dead"
    assert "DecodeError" in llm.cause
    assert llm.stats == EngineStats()
    assert metric(llm, "num_requests_running") == 0
    assert metric(llm, "engine_restarts_total") == restarts + 1
    with pytest.raises(EngineDeadError, match="DecodeError"):
        await collect(llm, [1], params, "too soon")

    await until(lambda: llm.state == "ready")
    assert joined_tokens(await collect(llm, [7, 8], params, "after")) == before


def send_garbage(llm: AsyncLLM) -> None:
    """Make the engine process fail."""
    assert llm._client._process is not None
    llm._client._process._requests.send(b"\xc1 is never used by MessagePack")


# --- Generating -----------------------------------------------------------------------------------------------------


async def test_tokens_are_those_of_the_offline_engine(llm: AsyncLLM, checkpoint: Path):
    params = SamplingParams(temperature=0.8, seed=3, n=2, max_tokens=20, ignore_eos=True, output_kind=DELTA)
    offline = LLM(str(checkpoint), **SETTINGS).generate("Hello there", params, use_tqdm=False)[0]
    outputs = await collect(llm, "Hello there", params, "r")
    assert joined_tokens(outputs) == {sequence.index: sequence.token_ids for sequence in offline.outputs}
    texts = ["".join(s.text for o in outputs for s in o.outputs if s.index == index) for index in (0, 1)]
    assert texts == [sequence.text for sequence in offline.outputs]
    assert [output.finished for output in outputs].count(True) == 1
    assert outputs[-1].finished


async def test_requests_at_the_same_time_give_what_each_gives_alone(llm: AsyncLLM):
    def request(number: int) -> tuple[list[int], SamplingParams]:
        return [5, 6, number], SamplingParams(seed=number, max_tokens=15, ignore_eos=True, output_kind=DELTA)

    alone = [joined_tokens(await collect(llm, *request(number), f"a{number}")) for number in range(6)]
    together = await asyncio.gather(*(collect(llm, *request(number), f"t{number}") for number in range(6)))
    assert [joined_tokens(outputs) for outputs in together] == alone


async def test_one_output_only_if_that_is_what_was_asked_for(llm: AsyncLLM):
    params = SamplingParams(max_tokens=5, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY)
    (output,) = await collect(llm, [1, 2], params, "r")
    assert output.finished
    assert len(output.outputs[0].token_ids) == 5


async def test_a_long_text_is_tokenized_beside_the_event_loop(llm: AsyncLLM):
    with pytest.raises(RequestError, match="greatest length is 1024") as refused:
        await collect(llm, "long text " * 5000, SamplingParams(), "r")
    assert refused.value.code == "context_length_exceeded"


async def test_a_slow_reader_finds_everything_in_one_output(llm: AsyncLLM):
    params = SamplingParams(max_tokens=60, ignore_eos=True, seed=1, output_kind=DELTA)
    expected = joined_tokens(await collect(llm, [1, 2], params, "fast"))
    outputs = []
    async with aclosing(llm.generate([1, 2], params, "slow")) as stream:  # type: ignore[type-var]
        async for output in stream:
            outputs.append(output)
            await until(lambda: llm.num_unfinished == 0)
    assert len(outputs) <= 2
    assert outputs[-1].finished
    assert joined_tokens(outputs) == expected


async def test_a_stop_string_frees_the_engine(llm: AsyncLLM):
    params = SamplingParams(temperature=0, max_tokens=900, ignore_eos=True, stop=list("aeiou \n"), output_kind=DELTA)
    last = (await collect(llm, "Hello", params, "r"))[-1].outputs[0]
    assert last.finish_reason == "stop"
    await until(lambda: llm.stats.num_used_blocks == 0)


async def test_the_prefix_cache_can_be_reset(llm: AsyncLLM):
    params = SamplingParams(max_tokens=1)
    prompt = list(range(40))
    assert (await collect(llm, prompt, params, "a"))[-1].num_cached_tokens in (0, 32)
    assert (await collect(llm, prompt, params, "b"))[-1].num_cached_tokens == 32
    await llm.reset_prefix_cache()
    assert (await collect(llm, prompt, params, "c"))[-1].num_cached_tokens == 0


async def test_prefixes_are_shared_only_within_a_salt(llm: AsyncLLM):
    async def cached(request_id: str, salt: str) -> int:
        params = SamplingParams(max_tokens=1, output_kind=RequestOutputKind.FINAL_ONLY)
        outputs = llm.generate(list(range(100, 140)), params, request_id, cache_salt=salt)
        return [output.num_cached_tokens async for output in outputs][-1]

    assert [await cached("a", "one"), await cached("b", "two"), await cached("c", "one")] == [0, 0, 32]


# --- Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "changes"),
    [
        ([], {}),
        ("", {}),
        ([5000], {}),
        ([1] * 2000, {}),
        (None, {}),
        ([1], {"top_k": 1.5}),
        ([1], {"max_tokens": 2**70}),
        ([1], {"stop": ["\ud800"]}),
        ([1], {"stop": "x" * 20_000}),
        ([1], {"logit_bias": {999: 1.0}}),
    ],
)
async def test_a_wrong_request_is_refused_and_the_engine_goes_on(llm: AsyncLLM, prompt: Any, changes: dict[str, Any]):
    params = SamplingParams()
    for name, value in changes.items():
        setattr(params, name, value)
    with pytest.raises(RequestError):
        await collect(llm, prompt, params, "wrong")
    assert is_empty(llm)
    assert len(await collect(llm, [1], SamplingParams(max_tokens=1), "wrong")) == 1


async def test_an_id_in_use_is_refused_without_harm_to_its_owner(llm: AsyncLLM):
    async with aclosing(llm.generate([1], ENDLESS, "r")) as first:  # type: ignore[type-var]
        await anext(first)
        with pytest.raises(RequestError, match="'r' is in use"):
            await collect(llm, [1], ENDLESS, "r")
        assert not (await anext(first)).finished


async def test_a_full_queue_refuses_and_takes_requests_again_later(llm: AsyncLLM):
    async def run(number: int) -> None:
        await collect(llm, [number], ENDLESS, f"r{number}")

    tasks = [asyncio.create_task(run(number)) for number in range(MAX_NUM_SEQS + MAX_NUM_QUEUED_REQS)]
    await until(lambda: llm.stats.num_running == MAX_NUM_SEQS and llm.stats.num_waiting == MAX_NUM_QUEUED_REQS)
    with pytest.raises(QueueFullError, match="max_num_queued_reqs is 4"):
        await collect(llm, [1], SamplingParams(max_tokens=1), "one more")
    assert metric(llm, "num_requests_waiting") == MAX_NUM_QUEUED_REQS
    assert metric(llm, "requests_rejected_total") == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: is_empty(llm))
    assert await collect(llm, [1], SamplingParams(max_tokens=1), "one more")


# --- Aborts ---------------------------------------------------------------------------------------------------------


async def test_closing_the_iterator_aborts_the_request(llm: AsyncLLM):
    stream = llm.generate([1, 2, 3], ENDLESS, "r")
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert llm.num_unfinished == 0
    await until(lambda: llm.stats.num_used_blocks == 0 and llm.stats.num_running == 0)


async def test_cancelling_the_reader_aborts_the_request(llm: AsyncLLM):
    began = asyncio.Event()

    async def read() -> None:
        async for _ in llm.generate([1, 2, 3], ENDLESS, "r"):
            began.set()

    reader = asyncio.create_task(read())
    await asyncio.wait_for(began.wait(), TIMEOUT_S)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert llm.num_unfinished == 0
    await until(lambda: llm.stats.num_used_blocks == 0 and llm.stats.num_running == 0)


async def test_an_abort_by_id_gives_the_reader_a_last_output(llm: AsyncLLM):
    outputs = []
    async for output in llm.generate([1, 2, 3], ENDLESS, "r"):
        outputs.append(output)
        if len(outputs) == 1:
            await llm.abort("r")
    assert outputs[-1].finished
    assert outputs[-1].outputs[-1].finish_reason == "abort"
    await llm.abort("r")  # it is gone: nothing happens


# --- Start and end -------------------------------------------------------------------------------------------------


async def test_the_signals_that_a_service_manager_sends_to_all_processes_do_not_end_the_engine(llm: AsyncLLM):
    pid = engine_pid(llm)
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    params = SamplingParams(max_tokens=3, ignore_eos=True, output_kind=DELTA)
    assert len(joined_tokens(await collect(llm, [1], params, "r"))[0]) == 3
    assert engine_pid(llm) == pid


def engine_pid(llm: AsyncLLM) -> int:
    assert llm._client._process is not None
    assert llm._client._process._process is not None
    return llm._client._process._process.pid


async def test_a_shutdown_lets_running_requests_finish(checkpoint: Path):
    llm = AsyncLLM(EngineConfig(model=str(checkpoint), **SETTINGS))
    with pytest.raises(EngineDeadError, match="starting"):
        await collect(llm, [1], ENDLESS, "too soon")
    await llm.start()
    params = SamplingParams(max_tokens=100, ignore_eos=True, output_kind=DELTA)
    running = asyncio.create_task(collect(llm, [1], params, "r"))
    await until(lambda: llm.stats.num_running == 1)
    await asyncio.wait_for(llm.shutdown(TIMEOUT_S), TIMEOUT_S)
    assert running.done()
    assert len(joined_tokens(running.result())[0]) == 100
    assert llm.state == "stopping"
    with pytest.raises(EngineDeadError, match="shutting down"):
        await collect(llm, [1], params, "too late")


async def test_a_shutdown_without_time_ends_requests_with_an_error(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "python"
    script = Path(__file__).parent / "scripted_engine.py"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} {script} {tmp_path}/pids obey\n")
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(program))
        llm = AsyncLLM(EngineConfig(model=str(checkpoint)))
        await llm.start()
    never_answered = asyncio.create_task(collect(llm, [1], ENDLESS, "r"))
    await until(lambda: llm.num_unfinished == 1)
    await asyncio.wait_for(llm.shutdown(0), TIMEOUT_S)
    with pytest.raises(EngineDeadError, match="shutting down"):
        await never_answered
    assert llm.num_unfinished == 0


async def test_a_model_that_is_missing_is_refused_before_any_process_starts():
    with pytest.raises(ModelError, match="/no/such/model"):
        AsyncLLM(EngineConfig(model="/no/such/model"))


async def test_the_tokenizer_and_the_length_are_known_before_the_start(checkpoint: Path):
    llm = AsyncLLM(EngineConfig(model=str(checkpoint), max_model_len=99))
    assert isinstance(llm.tokenizer, Tokenizer)
    assert (llm.max_model_len, llm.model_config.vocab_size) == (99, 320)
