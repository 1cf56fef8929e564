"""The engine core for vectors: whole sequences in, one vector each out, one synchronous step at a time.

There is no KV cache and nothing to resume: a step takes requests in the order in which they came, as many as fit into
its budget of tokens, and is their first and last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from octavo.engine.messages import EngineStats, StepOutput
from octavo.engine.pooling.messages import PooledVector, PoolingRequest
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from octavo.engine.lora.request import LoRARequest


class PoolingRunner(Protocol):
    """What the core asks of a runner."""

    def execute(self, requests: Sequence[PoolingRequest]) -> list[bytes]:
        """Return the result of each request as float32."""


class PoolingCore:
    """The queue and a runner.

    Args:
        max_num_seqs: sequences of one step at most.
        max_num_batched_tokens: tokens of one step at most; a longer sequence has a step of its own.
    """

    def __init__(self, runner: PoolingRunner, *, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        self.runner = runner
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._waiting: dict[str, PoolingRequest] = {}
        self._num_steps = 0

    @property
    def has_work(self) -> bool:
        """Whether some request is unfinished."""
        return bool(self._waiting)

    def add(self, request: PoolingRequest) -> None:
        """Queue a request that the client has validated."""
        self._waiting[request.request_id] = request

    def abort(self, request_ids: Iterable[str]) -> None:
        """Drop requests; ids that are not known have just finished."""
        for request_id in request_ids:
            self._waiting.pop(request_id, None)

    def step(self) -> StepOutput:
        """Compute the next requests in line."""
        batch = self._next_batch()
        if not batch:
            return StepOutput([], self.stats())
        self._num_steps += 1
        results = self.runner.execute(batch)
        for request in batch:
            del self._waiting[request.request_id]
        pooled = [PooledVector(request.request_id, data) for request, data in zip(batch, results, strict=True)]
        num_tokens = sum(len(request.token_ids) for request in batch)
        return StepOutput([], self.stats(), num_tokens=num_tokens, pooled=pooled)

    def stats(self) -> EngineStats:
        """Return the counts that monitoring shows: the requests of the next step run, the others wait."""
        num_running = len(self._next_batch())
        return EngineStats(
            num_running=num_running, num_waiting=len(self._waiting) - num_running, total_steps=self._num_steps
        )

    def reset_prefix_cache(self) -> None:
        """Do nothing: there is no cache."""

    def load_adapter(self, adapter: LoRARequest) -> None:
        """Refuse: what makes vectors takes no adapters."""
        raise ConfigError(f"this model makes vectors or scores and takes no LoRA adapter {adapter.lora_name!r}")

    def unload_adapter(self, lora_id: int) -> None:
        """Do nothing: there is none."""

    def _next_batch(self) -> list[PoolingRequest]:
        batch: list[PoolingRequest] = []
        room = self._max_num_batched_tokens
        for request in islice(self._waiting.values(), self._max_num_seqs):
            room -= len(request.token_ids)
            if room < 0 and batch:
                break
            batch.append(request)
        return batch
