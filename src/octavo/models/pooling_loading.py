"""From a model directory to a model that makes vectors: an encoder, or a decoder without its head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from octavo.models.config import ModelConfig
from octavo.models.encoder_config import EncoderConfig
from octavo.models.layers.decoder import CausalLM
from octavo.models.layers.encoder import Encoder
from octavo.models.loading import LoadOptions, fill_model, placement_of
from octavo.models.quantization.choice import UNQUANTIZED, WeightFormats
from octavo.models.registry import encoder_class, model_class
from octavo.models.weights import iterate_checkpoint


def load_pooling_model(
    directory: Path,
    config: ModelConfig | EncoderConfig,
    options: LoadOptions,
    *,
    formats: WeightFormats = UNQUANTIZED,
) -> CausalLM | Encoder:
    """Build the model of ``config`` and fill it; arguments as of ``loading.load_model``.

    Raises:
        ModelError: the checkpoint is missing, broken or does not fit.
    """
    model = build_pooling_model(config, options, formats)
    fill_model(model, own_names(config, iterate_checkpoint(directory)), options)
    return model.eval()


def pooling_weight_bytes(
    config: ModelConfig | EncoderConfig, *, dtype: torch.dtype, formats: WeightFormats = UNQUANTIZED
) -> int:
    """Return the memory of a model's weights, without allocating any of them."""
    model = build_pooling_model(config, LoadOptions(dtype, torch.device("meta")), formats)
    return sum(parameter.nbytes for parameter in model.parameters())


def build_pooling_model(
    config: ModelConfig | EncoderConfig, options: LoadOptions, formats: WeightFormats
) -> CausalLM | Encoder:
    """Return the model with memory for its weights; a decoder's head takes none, since it counts as tied."""
    placement = placement_of(options, replace(formats, head=UNQUANTIZED.head))
    if isinstance(config, EncoderConfig):
        return encoder_class(config.architecture)(config, placement)
    return model_class(config.architecture)(replace(config, tie_word_embeddings=True), placement)


def own_names(
    config: ModelConfig | EncoderConfig, tensors: Iterator[tuple[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors under the names that the model declares.

    A checkpoint may be that of the bare transformer or that of a model around it, which puts a prefix before the
    transformer's names: an encoder declares them without it, a decoder with it.
    """
    if isinstance(config, EncoderConfig):
        base = encoder_class(config.architecture).names.base + "."
        for name, tensor in tensors:
            yield name.removeprefix(base), tensor
    else:
        for name, tensor in tensors:
            yield (name if name.startswith(("model.", "lm_head.")) else f"model.{name}"), tensor
