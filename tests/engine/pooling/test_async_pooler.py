"""Calls for vectors from the client's side: results, cancellation, the death of the engine, timings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest

from octavo.engine.messages import ClientMessage, EngineStats, StepOutput
from octavo.engine.pooling.async_pooler import AsyncPooler
from octavo.engine.pooling.messages import AddPoolingRequests, PooledVector
from octavo.engine.pooling.params import PoolingParams
from octavo.engine.pooling.request_builder import PoolingRequestBuilder
from octavo.errors import EngineDeadError, QueueFullError
from octavo.models.pooling_files import read_model_kind
from octavo.observe.metrics import EngineMetrics
from octavo.observe.request_timing import RequestTiming
from octavo.text import Tokenizer
from tests.encoder_checkpoints import make_encoder

PARAMS = PoolingParams()


@dataclass
class Engine:
    """What a pooler tells its engine, and the answers of a test."""

    sent: list[ClientMessage] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    admitted: list[int] = field(default_factory=list)
    was_sent: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: ClientMessage) -> None:
        self.sent.append(message)
        self.was_sent.set()

    def names(self) -> list[str]:
        return [item.request_id for message in self.sent for item in getattr(message, "requests", [])]


def answer(name: str, value: float) -> PooledVector:
    return PooledVector(name, np.array([value], dtype=np.float32).tobytes())


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> PoolingRequestBuilder:
    directory = make_encoder(tmp_path_factory.mktemp("bert"), "BertModel")
    return PoolingRequestBuilder(
        Tokenizer.from_directory(directory), read_model_kind(directory, "auto"), max_model_len=64
    )


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def metrics() -> EngineMetrics:
    return EngineMetrics("tiny")


@pytest.fixture
async def pooler(builder: PoolingRequestBuilder, engine: Engine, metrics: EngineMetrics) -> AsyncPooler:
    return AsyncPooler(
        builder,
        admit=engine.admitted.append,
        send=engine.send,
        send_aborts=engine.aborted.extend,
        metrics=metrics,
    )


async def test_results_come_in_the_order_of_the_texts(
    pooler: AsyncPooler, engine: Engine, metrics: EngineMetrics
) -> None:
    timings = [RequestTiming(0.0, 0.0) for _ in range(3)]
    call = asyncio.create_task(pooler.encode(["a", "b c", "d"], PARAMS, "r", timings))
    await asyncio.sleep(0)
    assert engine.names() == ["r/0", "r/1", "r/2"]
    assert (engine.admitted, pooler.num_unfinished) == ([3], 3)
    assert isinstance(engine.sent[0], AddPoolingRequests)
    pooler.take(StepOutput([], EngineStats(), started_at=1.0, pooled=[answer("r/2", 2), answer("r/0", 0)]))
    assert not call.done()
    pooler.take(StepOutput([], EngineStats(), started_at=2.0, pooled=[answer("r/1", 1), answer("unknown", 9)]))
    assert [output.outputs.data.tolist() for output in await call] == [[0.0], [1.0], [2.0]]
    assert [timing.first_scheduled_at for timing in timings] == [1.0, 2.0, 1.0]
    assert [timing.finish_reason for timing in timings] == ["stop"] * 3
    assert metrics.num_prompt_tokens == 3 + 4 + 3
    assert engine.aborted == []
    await pooler.wait_idle()


async def test_a_cancelled_call_is_dropped_by_the_engine(pooler: AsyncPooler, engine: Engine) -> None:
    timings = [RequestTiming(0.0, 0.0) for _ in range(2)]
    call = asyncio.create_task(pooler.encode(["a", "b"], PARAMS, "r", timings))
    await asyncio.sleep(0)
    pooler.take(StepOutput([], EngineStats(), pooled=[answer("r/0", 0)]))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (engine.aborted, pooler.num_unfinished) == (["r/1"], 0)
    assert [timing.finish_reason for timing in timings] == ["stop", "abort"]
    pooler.take(StepOutput([], EngineStats(), pooled=[answer("r/1", 1)]))  # it was on its way
    await pooler.wait_idle()


async def test_all_calls_end_with_the_engine(pooler: AsyncPooler) -> None:
    calls = [asyncio.create_task(pooler.encode(["a", "b"], PARAMS, name, None)) for name in "xy"]
    await asyncio.sleep(0)
    pooler.fail(EngineDeadError("it died"))
    for call in calls:
        with pytest.raises(EngineDeadError, match="it died"):
            await call
    assert pooler.num_unfinished == 0


async def test_nothing_is_left_of_a_call_that_the_engine_refuses(
    builder: PoolingRequestBuilder, engine: Engine
) -> None:
    def refuse(num_new: int) -> None:
        raise QueueFullError(f"no room for {num_new}")

    pooler = AsyncPooler(builder, admit=refuse, send=engine.send, send_aborts=engine.aborted.extend)
    with pytest.raises(QueueFullError, match="no room for 1"):
        await pooler.encode(["a"], PARAMS, "r", None)
    assert (engine.sent, engine.aborted, pooler.num_unfinished) == ([], [], 0)


async def test_long_texts_do_not_hold_up_the_loop(pooler: AsyncPooler, engine: Engine) -> None:
    params = PoolingParams(truncate_prompt_tokens=-1)
    call = asyncio.create_task(pooler.encode(["a " * 20_000], params, "r", None))
    await asyncio.sleep(0)
    assert engine.sent == []  # the tokens are counted in a thread
    await engine.was_sent.wait()
    pooler.take(StepOutput([], EngineStats(), pooled=[answer("r/0", 5)]))
    (output,) = await call
    assert len(output.prompt_token_ids) == 64
