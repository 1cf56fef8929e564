"""From a model directory to a model that is ready to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from octavo.models.config import ModelConfig
from octavo.models.gguf.blocks import iterate_gguf
from octavo.models.layers.decoder import CausalLM
from octavo.models.layers.encoder import Encoder
from octavo.models.layers.layer_norm import LayerNorm
from octavo.models.layers.parameters import Placement
from octavo.models.layers.rms_norm import RMSNorm
from octavo.models.quantization.base import LinearWeight
from octavo.models.quantization.choice import UNQUANTIZED, WeightFormats
from octavo.models.registry import model_class
from octavo.models.weights import iterate_checkpoint, load_weights

_DUMMY_STD = 0.02


def load_model(
    directory: Path,
    config: ModelConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    load_format: str = "auto",
    seed: int = 0,
    formats: WeightFormats = UNQUANTIZED,
) -> CausalLM:
    """Build the model of ``config`` on ``device`` and fill it.

    Args:
        directory: holds the checkpoint, or is a GGUF file; not looked at for dummy weights.
        load_format: ``auto`` or ``safetensors`` reads the checkpoint, ``dummy`` makes random weights.
        seed: of dummy weights: the same seed gives the same weights on the same kind of device.
        formats: in which the model holds its matrices; they fit the checkpoint (``choose_formats``).

    Raises:
        ModelError: the architecture is not supported, or the checkpoint is missing, broken or does not fit.
    """
    model = _build(config, dtype, device, formats)
    fill_model(model, _iterate_tensors(directory, config, dtype), device, load_format=load_format, seed=seed)
    return model.eval()


def fill_model(
    model: CausalLM | Encoder,
    tensors: Iterator[tuple[str, Tensor]],
    device: torch.device,
    *,
    load_format: str,
    seed: int,
) -> None:
    """Give a model the tensors of a checkpoint, or random ones for dummy weights; errors as in ``load_model``."""
    with torch.no_grad():
        if load_format == "dummy":
            _fill_with_noise(model, seed)
        else:
            load_weights(model, tensors, device)


def _iterate_tensors(path: Path, config: ModelConfig, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    return iterate_gguf(path, config, dtype) if path.is_file() else iterate_checkpoint(path)


def weight_bytes(config: ModelConfig, *, dtype: torch.dtype, formats: WeightFormats = UNQUANTIZED) -> int:
    """Return the memory of a model's weights, without allocating any of them.

    Raises:
        ModelError: a matrix does not have a shape that its format can hold.
    """
    model = _build(config, dtype, torch.device("meta"), formats)
    return sum(parameter.nbytes for parameter in model.parameters())


def _build(config: ModelConfig, dtype: torch.dtype, device: torch.device, formats: WeightFormats) -> CausalLM:
    placement = Placement(dtype, device, linear_format=formats.linear, head_format=formats.head)
    return model_class(config.architecture)(config, placement)


def _fill_with_noise(model: CausalLM | Encoder, seed: int) -> None:
    """Draw weights in the order of the modules, apart from torch's own random state; norms are 1."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    filled: set[nn.Parameter] = set()
    for module in model.modules():
        parameters = set(module.parameters())
        if parameters <= filled:
            continue  # a tied head, or the parts of a weight that is filled as a whole
        if isinstance(module, RMSNorm | LayerNorm):
            for name, parameter in module.named_parameters():
                parameter.fill_(1.0 if name == "weight" else 0.0)
        elif isinstance(module, LinearWeight):
            module.fill_with_noise(_DUMMY_STD, generator)
        else:
            parameters = set(module.parameters(recurse=False))
            for parameter in module.parameters(recurse=False):
                parameter.normal_(std=_DUMMY_STD, generator=generator)
        filled |= parameters
