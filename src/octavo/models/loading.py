"""From a model directory to a model that is ready to run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from octavo.models.config import ModelConfig
from octavo.models.layers.decoder import CausalLM
from octavo.models.layers.parameters import Placement
from octavo.models.layers.rms_norm import RMSNorm
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
) -> CausalLM:
    """Build the model of ``config`` on ``device`` and fill it.

    Args:
        directory: holds the checkpoint; not looked at for dummy weights.
        load_format: ``auto`` or ``safetensors`` reads the checkpoint, ``dummy`` makes random weights.
        seed: of dummy weights: the same seed gives the same weights on the same kind of device.

    Raises:
        ModelError: the architecture is not supported, or the checkpoint is missing, broken or does not fit.
    """
    model = model_class(config.architecture)(config, Placement(dtype, device))
    with torch.no_grad():
        if load_format == "dummy":
            _fill_with_noise(model, seed)
        else:
            load_weights(model, iterate_checkpoint(directory))
    return model.eval()


def count_parameters(config: ModelConfig) -> int:
    """Return the number of weights of a model, without allocating any of them."""
    model = model_class(config.architecture)(config, Placement(torch.float32, torch.device("meta")))
    return sum(parameter.numel() for parameter in model.parameters())


def _fill_with_noise(model: nn.Module, seed: int) -> None:
    """Draw weights in the order of the parameters, apart from torch's own random state; norms are 1."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    norms = {module.weight for module in model.modules() if isinstance(module, RMSNorm)}
    for parameter in model.parameters():
        if parameter in norms:
            parameter.fill_(1.0)
        else:
            parameter.normal_(std=_DUMMY_STD, generator=generator)
