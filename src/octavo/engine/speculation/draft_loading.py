"""Finds and loads the small model of the method ``draft_model``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from octavo.config.sizes import format_bytes
from octavo.engine import memory
from octavo.errors import ConfigError
from octavo.models.config import ModelConfig
from octavo.models.hub import resolve_model
from octavo.models.loading import load_model, weight_bytes
from octavo.models.pooling_files import read_model_kind
from octavo.models.quantization.choice import choose_formats

if TYPE_CHECKING:
    import torch

    from octavo.config import EngineConfig
    from octavo.models.layers.decoder import CausalLM

logger = logging.getLogger(__name__)


def load_draft_model(
    config: EngineConfig,
    target: ModelConfig,
    max_model_len: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
    native: bool,
    rounds_activations: bool,
    free_bytes: int,
) -> CausalLM | None:
    """Load the small model; None if the configuration names none.

    Its weights have the type of the large model's, or are quantised as its own checkpoint is.

    Args:
        target: the large model.
        dtype, device, native, rounds_activations: as of the large model, for ``load_model``.
        free_bytes: memory for the weights.

    Raises:
        ConfigError: it does not generate, has other tokens or a shorter context, or does not fit in memory.
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
    formats = choose_formats(None, draft.quantization)
    num_bytes = weight_bytes(draft, dtype=dtype, formats=formats)
    memory.check_weights_fit(num_bytes, free_bytes, device.type)
    logger.info("draft model: %s, %s of weights", speculative.model, format_bytes(num_bytes))
    return load_model(
        directory,
        draft,
        dtype=dtype,
        device=device,
        load_format=config.load_format,
        seed=config.seed,
        formats=formats,
        native=native,
        rounds_activations=rounds_activations,
    )
