"""An engine core of either kind, and the one place that chooses between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from octavo.engine.builder import BuiltEngine, build_engine
from octavo.engine.messages import EngineStats, StepOutput
from octavo.engine.pooling.builder import BuiltPoolingEngine, build_pooling_engine
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from octavo.config import EngineConfig
    from octavo.engine.lora.request import LoRARequest
    from octavo.models.config import ModelConfig
    from octavo.models.pooling_files import ModelKind


class AnyCore(Protocol):
    """What the engine's loop asks of ``EngineCore`` and ``PoolingCore`` alike."""

    @property
    def has_work(self) -> bool:
        """Whether some request is unfinished."""

    def add(self, request: Any, /) -> None:
        """Queue a request of the core's own kind."""

    def abort(self, request_ids: Iterable[str]) -> None:
        """Drop requests."""

    def step(self) -> StepOutput:
        """Compute one step."""

    def stats(self) -> EngineStats:
        """Return the counts that monitoring shows."""

    def reset_prefix_cache(self) -> None:
        """Forget every cached prefix."""

    def load_adapter(self, adapter: LoRARequest, /) -> None:
        """Load a LoRA adapter, or raise ``OctavoError``."""

    def unload_adapter(self, lora_id: int, /) -> None:
        """Forget a LoRA adapter."""


def build_any_engine(
    config: EngineConfig,
    directory: Path,
    kind: ModelKind,
    max_model_len: int,
    adapters: Sequence[LoRARequest] = (),
) -> BuiltEngine | BuiltPoolingEngine:
    """Build the core that a model needs.

    Args:
        adapters: LoRA adapters to begin with.

    Raises:
        ConfigError: the device is missing, the model does not fit in memory, or it takes no adapters.
        ModelError: the checkpoint is broken or not supported.
    """
    check_takes_adapters(config, kind)
    if kind.pooling is not None:
        if config.speculative_config is not None:
            raise ConfigError(f"speculative_config: {config.model} makes vectors or scores, there is nothing to guess")
        return build_pooling_engine(config, directory, kind.config, kind.pooling, max_model_len)
    return build_engine(config, directory, cast("ModelConfig", kind.config), max_model_len, adapters)


def check_takes_adapters(config: EngineConfig, kind: ModelKind) -> None:
    """Raise ``ConfigError`` if adapters are asked for, but the model makes vectors or scores."""
    if config.enable_lora and kind.pooling is not None:
        raise ConfigError(
            f"{config.model} makes vectors or scores, and only models that generate take LoRA adapters. Leave out "
            "--lora-modules and --enable-lora."
        )
