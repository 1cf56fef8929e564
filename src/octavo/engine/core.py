"""The engine core: requests in, tokens out, one synchronous step at a time.

Single-threaded and deterministic: the same calls give the same decisions and tokens. No sockets, no asyncio, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from octavo.engine.messages import EngineRequest, EngineStats, StepOutput
from octavo.engine.request import Request
from octavo.engine.scheduler import Scheduler
from octavo.engine.step import StepPlan, StepResult
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from octavo.engine.lora.adapters import Adapters
    from octavo.engine.lora.request import LoRARequest
    from octavo.models.config import ModelConfig


class StepRunner(Protocol):
    """What the core asks of a runner."""

    def execute(self, plan: StepPlan) -> StepResult:
        """Compute a plan and return one token for each of its samples."""


class EngineCore:
    """Scheduler and runner together.

    Args:
        adapters: LoRA adapters of the runner's model, if it takes any.
    """

    def __init__(
        self, scheduler: Scheduler, runner: StepRunner, model_config: ModelConfig, adapters: Adapters | None = None
    ) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self._model_config = model_config
        self._num_arrivals = 0
        self._adapters = adapters
        self._unloading: set[int] = set()

    @property
    def has_work(self) -> bool:
        """Whether some request is unfinished."""
        return self.scheduler.has_unfinished_requests

    def add(self, message: EngineRequest) -> None:
        """Queue a request that the client has validated."""
        self._num_arrivals += 1
        if message.lora_id and (self._adapters is None or message.lora_id not in self._adapters):
            raise ValueError(f"there is no adapter {message.lora_id}")
        hash_extra = _prefix_key(self._model_config, len(message.prompt_token_ids), message.lora_id)
        self.scheduler.add(Request(message, arrival=self._num_arrivals, hash_extra=hash_extra))

    def abort(self, request_ids: Iterable[str]) -> None:
        """Drop requests and free their blocks at once; ids that are not known have just finished."""
        for request_id in request_ids:
            self.scheduler.abort(request_id)

    def step(self) -> StepOutput:
        """Plan, compute and settle one step."""
        plan = self.scheduler.schedule()
        updates = self.scheduler.commit(plan, self.runner.execute(plan)) if plan.rows else []
        if self._unloading:
            self._drop_unused_adapters()
        return StepOutput(updates, self.scheduler.stats(), plan.events, sum(plan.counts))

    def stats(self) -> EngineStats:
        """Return the counts that monitoring shows."""
        return self.scheduler.stats()

    def reset_prefix_cache(self) -> None:
        """Forget every cached prefix; running requests keep their blocks."""
        self.scheduler.kv_cache.pool.forget_cached()

    def load_adapter(self, adapter: LoRARequest) -> None:
        """Load a LoRA adapter; one that is there already stays as it is.

        Raises:
            ModelError, ConfigError: its files are at fault, or there is no room for it.
        """
        if self._adapters is None:
            raise ConfigError("this engine takes no LoRA adapters. Start it with enable_lora (--enable-lora).")
        self._adapters.load(adapter)

    def unload_adapter(self, lora_id: int) -> None:
        """Forget an adapter as soon as no request has it any more. Its number must not be used again."""
        self._unloading.add(lora_id)
        self._drop_unused_adapters()

    def _drop_unused_adapters(self) -> None:
        in_use = {request.lora_id for request in self.scheduler.requests.values()}
        for lora_id in self._unloading - in_use:
            if self._adapters is not None:
                self._adapters.drop(lora_id)
            self._unloading.discard(lora_id)


def _prefix_key(config: ModelConfig, prompt_len: int, lora_id: int) -> bytes:
    """Return what besides the tokens themselves decides the keys and values of a prompt.

    With dynamic rotary scaling the rotation depends on the prompt's length once that is beyond the trained length.
    """
    key = f"adapter {lora_id};" if lora_id else ""
    if config.rope.rope_type == "dynamic" and prompt_len > config.max_position_embeddings:
        key += f"dynamic rope, prompt of {prompt_len}"
    return key.encode()
