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
from octavo.models.loading import fill_model, placement_of
from octavo.models.quantization.choice import UNQUANTIZED, WeightFormats
from octavo.models.registry import encoder_class, model_class
from octavo.models.weights import iterate_checkpoint


def load_pooling_model(
    directory: Path,
    config: ModelConfig | EncoderConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    load_format: str = "auto",
    seed: int = 0,
    formats: WeightFormats = UNQUANTIZED,
    native: bool = False,
    rounds_activations: bool = False,
) -> CausalLM | Encoder:
    """Build the model of ``config`` on ``device`` and fill it; arguments as of ``loading.load_model``.

    Raises:
        ModelError: the checkpoint is missing, broken or does not fit.
    """
    model = build_pooling_model(
        config, dtype=dtype, device=device, formats=formats, native=native, rounds_activations=rounds_activations
    )
    tensors = own_names(config, iterate_checkpoint(directory))
    fill_model(model, tensors, device, load_format=load_format, seed=seed)
    return model.eval()


def pooling_weight_bytes(
    config: ModelConfig | EncoderConfig, *, dtype: torch.dtype, formats: WeightFormats = UNQUANTIZED
) -> int:
    """Return the memory of a model's weights, without allocating any of them."""
    model = build_pooling_model(config, dtype=dtype, device=torch.device("meta"), formats=formats, native=False)
    return sum(parameter.nbytes for parameter in model.parameters())


def build_pooling_model(
    config: ModelConfig | EncoderConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    formats: WeightFormats,
    native: bool,
    rounds_activations: bool = False,
) -> CausalLM | Encoder:
    """Return the model with memory for its weights; a decoder's head takes none, since it counts as tied."""
    formats = replace(formats, head=UNQUANTIZED.head)
    placement = placement_of(formats, dtype=dtype, device=device, native=native, rounds_activations=rounds_activations)
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
