"""The requests for vectors that are under way in an engine process: one future each call, and its timings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from octavo.engine.messages import StepOutput
from octavo.engine.pooling.messages import AddPoolingRequests, PooledVector, PoolingRequest
from octavo.engine.pooling.outputs import PoolingOutput, PoolingRequestOutput
from octavo.observe.request_timing import RequestTiming, SequenceEvent

if TYPE_CHECKING:
    from octavo.engine.messages import ClientMessage
    from octavo.engine.pooling.params import PoolingParams
    from octavo.engine.pooling.request_builder import PoolingPrompt, PoolingRequestBuilder
    from octavo.observe.metrics import EngineMetrics

_LONG_TEXTS_CHARS = 20_000


@dataclass(slots=True)
class _Call:
    """One call and what it still waits for."""

    results: list[bytes]
    timings: Sequence[RequestTiming]
    num_missing: int
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class AsyncPooler:
    """Sends requests for vectors to an engine and gives their results to whoever waits.

    Args:
        admit: called with the number of new sequences; raises if the engine takes no more.
        send: gives a message to the engine; raises EngineDeadError if there is none.
        send_aborts: tells the engine to drop requests, if it is there.
    """

    def __init__(
        self,
        builder: PoolingRequestBuilder,
        *,
        admit: Callable[[int], None],
        send: Callable[[ClientMessage], None],
        send_aborts: Callable[[list[str]], None],
        metrics: EngineMetrics | None = None,
    ) -> None:
        self.builder = builder
        self._admit = admit
        self._send = send
        self._send_aborts = send_aborts
        self._metrics = metrics
        self._sequences: dict[str, tuple[_Call, int]] = {}
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def num_unfinished(self) -> int:
        """Sequences that have not finished."""
        return len(self._sequences)

    async def wait_idle(self) -> None:
        """Wait until nothing is under way."""
        await self._is_idle.wait()

    async def encode(
        self,
        prompts: Sequence[PoolingPrompt],
        params: PoolingParams,
        request_id: str,
        timings: Sequence[RequestTiming] | None,
    ) -> list[PoolingRequestOutput]:
        """Compute all prompts and return their results in order; if the task is cancelled, the engine drops them."""
        if timings is None:
            timings = [RequestTiming(time.monotonic(), time.time()) for _ in prompts]
        requests = await self._build(prompts, params, request_id)
        if not requests:
            return []
        self._admit(len(requests))
        call = _Call([b""] * len(requests), timings, len(requests))
        try:
            for index, request in enumerate(requests):
                timings[index].num_prompt_tokens = len(request.token_ids)
                self._sequences[request.request_id] = (call, index)
            self._is_idle.clear()
            self._send(AddPoolingRequests(requests))
            await call.done
        finally:
            self._drop([request.request_id for request in requests])
        return [
            PoolingRequestOutput(request.request_id, request.token_ids, outputs=PoolingOutput(to_array(data)))
            for request, data in zip(requests, call.results, strict=True)
        ]

    def take(self, step: StepOutput) -> None:
        """Take in the results of one step; those of requests that were dropped are ignored."""
        now = time.monotonic()
        for vector in step.pooled:
            self._take_one(vector, step.started_at, now)
        if not self._sequences:
            self._is_idle.set()

    def fail(self, error: Exception) -> None:
        """End every call with an error; the engine and all that it held are gone."""
        for call in {id(call): call for call, _ in self._sequences.values()}.values():
            if not call.done.done():
                call.done.set_exception(error)

    async def _build(
        self, prompts: Sequence[PoolingPrompt], params: PoolingParams, request_id: str
    ) -> list[PoolingRequest]:
        num_chars = sum(
            len(part) for prompt in prompts for part in (prompt if isinstance(prompt, tuple) else (prompt,))
        )
        if num_chars > _LONG_TEXTS_CHARS:
            return await asyncio.to_thread(self.builder.build, prompts, params, request_id)
        return self.builder.build(prompts, params, request_id)

    def _take_one(self, vector: PooledVector, started_at: float, now: float) -> None:
        found = self._sequences.pop(vector.request_id, None)
        if found is None:
            return
        call, index = found
        timing = call.timings[index]
        timing.first_scheduled_at = started_at
        timing.finished_at = now
        timing.finish_reason = "stop"
        timing.events = [
            SequenceEvent(started_at, "scheduled"),
            SequenceEvent(started_at, "prefill", num_tokens=timing.num_prompt_tokens),
        ]
        if self._metrics is not None:
            self._metrics.observe_pooled(timing)
        call.results[index] = vector.data
        call.num_missing -= 1
        if call.num_missing == 0 and not call.done.done():
            call.done.set_result(None)

    def _drop(self, request_ids: list[str]) -> None:
        """Forget what has not finished of a call, and let the engine forget it."""
        unfinished = [name for name in request_ids if name in self._sequences]
        for name in unfinished:
            call, index = self._sequences.pop(name)
            timing = call.timings[index]
            timing.finished_at = time.monotonic()
            timing.finish_reason = "abort"
            if self._metrics is not None:
                self._metrics.observe_pooled(timing)
        if unfinished:
            self._send_aborts(unfinished)
        if not self._sequences:
            self._is_idle.set()


def to_array(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the numbers of a result: ``[size]`` float32."""
    return np.frombuffer(data, dtype=np.float32)
