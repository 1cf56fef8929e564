"""Finds and loads the small model of the method ``draft_model``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.config.sizes import format_bytes
from octavo.engine import memory
from octavo.errors import ConfigError
from octavo.models.config import ModelConfig
from octavo.models.hub import resolve_model
from octavo.models.loading import LoadOptions, load_model, weight_bytes
from octavo.models.pooling_files import read_model_kind
from octavo.models.quantization.choice import choose_formats

if TYPE_CHECKING:
    from octavo.config import EngineConfig
    from octavo.models.layers.decoder import CausalLM

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DraftModelFiles:
    """A small model that fits the large one, before its weights are read."""

    name: str
    directory: Path
    config: ModelConfig


def find_draft_model(config: EngineConfig, target: ModelConfig, max_model_len: int) -> DraftModelFiles | None:
    """Find the small model; None if the configuration names none.

    Args:
        target: the large model.

    Raises:
        ConfigError: it does not generate, or has other tokens or a shorter context.
        ModelError: it is missing, broken or not supported.
    """
    speculative = config.speculative_config
    if speculative is None or speculative.model is None:
        return None
    directory = resolve_model(speculative.model, weights=config.load_format != "dummy")
    kind = read_model_kind(directory, "auto")
    draft = kind.config
    if kind.pooling is not None or not isinstance(draft, ModelConfig):
        raise ConfigError(f"speculative_config: model {speculative.model} makes vectors or scores; it must generate")
    if draft.vocab_size != target.vocab_size:
        raise ConfigError(
            f"speculative_config: model {speculative.model} has {draft.vocab_size:,} token ids, but {config.model} has "
            f"{target.vocab_size:,}. Both must have the same tokens: use a smaller model of the same family."
        )
    if draft.default_max_model_len < max_model_len:
        raise ConfigError(
            f"speculative_config: model {speculative.model} was made for {draft.default_max_model_len} tokens, less "
            f"than max_model_len={max_model_len}. Use --max-model-len {draft.default_max_model_len} or less."
        )
    return DraftModelFiles(speculative.model, directory, draft)


def load_draft_model(files: DraftModelFiles, options: LoadOptions, *, free_bytes: int) -> CausalLM:
    """Load the small model. Its weights are held as the large model's, or quantised as its own checkpoint is.

    Args:
        options: of the large model.
        free_bytes: memory for the weights.

    Raises:
        ConfigError: it does not fit in memory.
        ModelError: its weights are missing, broken or not supported.
    """
    formats = choose_formats(None, files.config.quantization)
    num_bytes = weight_bytes(files.config, dtype=options.dtype, formats=formats)
    memory.check_weights_fit(num_bytes, free_bytes, options.device.type)
    logger.info("draft model: %s, %s of weights", files.name, format_bytes(num_bytes))
    return load_model(files.directory, files.config, options, formats=formats)
