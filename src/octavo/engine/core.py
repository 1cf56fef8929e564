"""The engine core: requests in, tokens out, one synchronous step at a time.

Single-threaded and deterministic: the same calls give the same decisions and tokens. No sockets, no asyncio, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from octavo.engine.messages import EngineRequest, EngineStats, StepOutput
from octavo.engine.request import Request
from octavo.engine.scheduler import Scheduler
from octavo.engine.step import StepPlan, StepResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from octavo.models.config import ModelConfig


class StepRunner(Protocol):
    """What the core asks of a runner."""

    def execute(self, plan: StepPlan) -> StepResult:
        """Compute a plan and return one token for each of its samples."""


class EngineCore:
    """Scheduler and runner together."""

    def __init__(self, scheduler: Scheduler, runner: StepRunner, model_config: ModelConfig) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self._model_config = model_config
        self._num_arrivals = 0

    @property
    def has_work(self) -> bool:
        """Whether some request is unfinished."""
        return self.scheduler.has_unfinished_requests

    def add(self, message: EngineRequest) -> None:
        """Queue a request that the client has validated."""
        self._num_arrivals += 1
        hash_extra = _prefix_key(self._model_config, len(message.prompt_token_ids))
        self.scheduler.add(Request(message, arrival=self._num_arrivals, hash_extra=hash_extra))

    def abort(self, request_ids: Iterable[str]) -> None:
        """Drop requests and free their blocks at once; ids that are not known have just finished."""
        for request_id in request_ids:
            self.scheduler.abort(request_id)

    def step(self) -> StepOutput:
        """Plan, compute and settle one step."""
        plan = self.scheduler.schedule()
        updates = self.scheduler.commit(plan, self.runner.execute(plan)) if plan.rows else []
        return StepOutput(updates, self.scheduler.stats(), plan.events, sum(plan.counts))

    def stats(self) -> EngineStats:
        """Return the counts that monitoring shows."""
        return self.scheduler.stats()

    def reset_prefix_cache(self) -> None:
        """Forget every cached prefix; running requests keep their blocks."""
        self.scheduler.kv_cache.pool.forget_cached()


def _prefix_key(config: ModelConfig, prompt_len: int) -> bytes:
    """Return what besides the tokens themselves decides the keys and values of a prompt.

    With dynamic rotary scaling the rotation depends on the prompt's length once that is beyond the trained length, with
    LongRoPE on whether it is.
    """
    if config.rope.rope_type == "dynamic" and prompt_len > config.max_position_embeddings:
        return f"dynamic rope, prompt of {prompt_len}".encode()
    if config.rope.rope_type == "longrope" and prompt_len > config.rope.original_max_position_embeddings:
        return b"longrope, long prompt"
    return b""
