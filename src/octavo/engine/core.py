"""The engine core: requests in, tokens out, one synchronous step at a time.

Single-threaded and deterministic: the same calls give the same decisions and tokens. No sockets, no asyncio, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from octavo.engine.messages import EngineRequest, EngineStats, SequenceUpdate, StepOutput
from octavo.engine.request import Request
from octavo.engine.scheduler import Scheduler
from octavo.engine.step import StepPlan, StepResult
from octavo.engine.structured.queue import GrammarQueue
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from octavo.engine.lora.adapters import Adapters
    from octavo.engine.lora.request import LoRARequest
    from octavo.engine.structured.compiler import GrammarCompiler
    from octavo.models.config import ModelConfig


_GRAMMAR_PATIENCE_S = 0.01


class StepRunner(Protocol):
    """What the core asks of a runner."""

    def execute(self, plan: StepPlan) -> StepResult:
        """Compute a plan and return one token for each of its samples."""


class EngineCore:
    """Scheduler and runner together.

    Args:
        grammars: compiles the grammars of requests; without it, there are none.
        adapters: LoRA adapters of the runner's model, if it takes any.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: StepRunner,
        model_config: ModelConfig,
        grammars: GrammarCompiler | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self._model_config = model_config
        self._num_arrivals = 0
        self._grammars = None if grammars is None else GrammarQueue(grammars)
        self._adapters = adapters
        self._unloading: set[int] = set()

    @property
    def has_work(self) -> bool:
        """Whether some request is unfinished."""
        return self.scheduler.has_unfinished_requests or bool(self._grammars)

    def add(self, message: EngineRequest) -> None:
        """Queue a request that the client has validated."""
        self._num_arrivals += 1
        if message.lora_id and (self._adapters is None or message.lora_id not in self._adapters):
            raise ValueError(f"there is no adapter {message.lora_id}")
        hash_extra = _prefix_key(self._model_config, len(message.prompt_token_ids), message.lora_id)
        request = Request(message, arrival=self._num_arrivals, hash_extra=hash_extra)
        if not message.grammar:
            self.scheduler.add(request)
        elif self._grammars is not None:
            self._grammars.add(request, message.grammar)
        else:
            raise ValueError("this engine core was made without a compiler for grammars")

    def abort(self, request_ids: Iterable[str]) -> None:
        """Drop requests and free their blocks at once; ids that are not known have just finished."""
        for request_id in request_ids:
            if not self.scheduler.abort(request_id) and self._grammars:
                self._grammars.abort(request_id)

    def step(self) -> StepOutput:
        """Plan, compute and settle one step."""
        failed = self._take_compiled() if self._grammars else []
        plan = self.scheduler.schedule()
        updates = self.scheduler.commit(plan, self.runner.execute(plan)) if plan.rows else []
        if self._unloading:
            self._drop_unused_adapters()
        return StepOutput(failed + updates, self.stats(), plan.events, sum(plan.counts))

    def stats(self) -> EngineStats:
        """Return the counts that monitoring shows."""
        stats = self.scheduler.stats()
        if self._grammars:
            stats.num_waiting += len(self._grammars)
        return stats

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

    def _take_compiled(self) -> list[SequenceUpdate]:
        """Queue the requests whose grammars are ready; return what ends those whose grammars are wrong."""
        if self._grammars is None:
            return []
        if not self.scheduler.has_unfinished_requests:
            self._grammars.wait(_GRAMMAR_PATIENCE_S)  # then the caller looks for new messages
        ready, failed = self._grammars.take_ready()
        for request in ready:
            self.scheduler.add(request)
        return [SequenceUpdate(request_id, [], "error", error=error) for request_id, error in failed]

    def _drop_unused_adapters(self) -> None:
        in_use = {request.lora_id for request in self.scheduler.requests.values()}
        if self._grammars:
            in_use |= {request.lora_id for request in self._grammars.requests()}
        for lora_id in self._unloading - in_use:
            if self._adapters is not None:
                self._adapters.drop(lora_id)
            self._unloading.discard(lora_id)


def _prefix_key(config: ModelConfig, prompt_len: int, lora_id: int) -> bytes:
    """Return what besides the tokens themselves decides the keys and values of a prompt.

    With dynamic rotary scaling the rotation depends on the prompt's length once that is beyond the trained length, with
    LongRoPE on whether it is.
    """
    key = f"adapter {lora_id};" if lora_id else ""
    if config.rope.rope_type == "dynamic" and prompt_len > config.max_position_embeddings:
        key += f"dynamic rope, prompt of {prompt_len}"
    if config.rope.rope_type == "longrope" and prompt_len > config.rope.original_max_position_embeddings:
        key += "longrope, long prompt"
    return key.encode()
