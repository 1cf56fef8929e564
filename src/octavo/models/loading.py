"""From a model directory to a model that is ready to run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from octavo.errors import ConfigError
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


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Where a model is loaded, and how its numbers are held.

    Attributes:
        dtype: of matrices that are not quantised; where torch computes, of activations and everything else, too.
        load_format: ``dummy`` makes random weights; ``safetensors`` and ``gguf`` say what a checkpoint must be.
        seed: of dummy weights: the same seed gives the same weights on the same kind of device.
        native: pack the matrices for the CPU's native kernels, and compute in float32.
        rounds_activations: with ``native``, round what is multiplied with a bfloat16 matrix to bfloat16. Attention may
            round queries and weights then, and with quantised matrices, whose activations are rounded more.
    """

    dtype: torch.dtype
    device: torch.device
    load_format: str = "auto"
    seed: int = 0
    native: bool = False
    rounds_activations: bool = False


def load_model(
    directory: Path, config: ModelConfig, options: LoadOptions, *, formats: WeightFormats = UNQUANTIZED
) -> CausalLM:
    """Build the model of ``config`` and fill it.

    Args:
        directory: holds the checkpoint, or is a GGUF file; not looked at for dummy weights.
        formats: in which the model holds its matrices; they fit the checkpoint (``choose_formats``).

    Raises:
        ConfigError: the checkpoint is not of the load format.
        ModelError: the architecture is not supported, or the checkpoint is missing, broken or does not fit.
    """
    check_load_format(directory, options.load_format)
    model = model_class(config.architecture)(config, placement_of(options, formats))
    if options.load_format == "dummy" and formats.method == "gguf":
        _take_zeros(model, options.dtype, options.device)
    fill_model(model, _iterate_tensors(directory, config, options.dtype, formats), options)
    return model.eval()


def placement_of(options: LoadOptions, formats: WeightFormats) -> Placement:
    """Return where and how parameters are held."""
    return Placement(
        torch.float32 if options.native else options.dtype,
        options.device,
        linear_format=formats.linear,
        head_format=formats.head,
        is_native=options.native,
        matrix_dtype=options.dtype,
        rounds_activations=options.rounds_activations,
        rounds_attention=options.native and (options.rounds_activations or formats.method is not None),
    )


def fill_model(model: CausalLM | Encoder, tensors: Iterator[tuple[str, Tensor]], options: LoadOptions) -> None:
    """Give a model the tensors of a checkpoint, or random ones for dummy weights; errors as in ``load_model``."""
    with torch.no_grad():
        if options.load_format == "dummy":
            _fill_with_noise(model, torch.Generator(options.device).manual_seed(options.seed))
        else:
            load_weights(model, tensors, options.device)


def check_load_format(path: Path, load_format: str) -> None:
    """Refuse a checkpoint that is not what the load format says.

    Raises:
        ConfigError: it is not.
    """
    if load_format == "gguf" and not path.is_file():
        raise ConfigError(f"load_format=gguf was asked for, but {path} is no GGUF file.")
    if load_format == "safetensors" and path.is_file():
        raise ConfigError(f"load_format=safetensors was asked for, but {path} is a GGUF file.")


def _iterate_tensors(
    path: Path, config: ModelConfig, dtype: torch.dtype, formats: WeightFormats
) -> Iterator[tuple[str, Tensor]]:
    if path.is_file():
        return iterate_gguf(path, config, dtype, blocks=formats.method == "gguf")
    return iterate_checkpoint(path)


def weight_bytes(config: ModelConfig, *, dtype: torch.dtype, formats: WeightFormats = UNQUANTIZED) -> int:
    """Return the memory of a model's weights, without allocating any of them.

    Raises:
        ModelError: a matrix does not have a shape that its format can hold.
    """
    meta = torch.device("meta")
    model = model_class(config.architecture)(config, placement_of(LoadOptions(dtype, meta), formats))
    if formats.method == "gguf":
        _take_zeros(model, dtype, meta)
    return sum(parameter.nbytes for parameter in model.parameters())


def _take_zeros(model: CausalLM, dtype: torch.dtype, device: torch.device) -> None:
    """Fill a model from a GGUF file of zeros: what holds a matrix is known only when it has come."""
    for tensor in model.checkpoint_tensors():
        stored_dtype = dtype if dtype in tensor.dtypes else tensor.dtypes[0]
        tensor.take(torch.zeros(tensor.shape, dtype=stored_dtype, device=device))


def _fill_with_noise(model: CausalLM | Encoder, generator: torch.Generator) -> None:
    """Draw weights in the order of the modules, apart from torch's own random state; norms are 1."""
    filled: set[nn.Module] = set()
    for module in model.modules():  # each once, even if a head is tied to the embedding
        if module in filled:
            continue  # part of a weight that is filled as a whole
        if isinstance(module, RMSNorm | LayerNorm):
            for name, parameter in module.named_parameters():
                parameter.fill_(1.0 if name == "weight" else 0.0)
        elif isinstance(module, LinearWeight):
            module.fill_with_noise(_DUMMY_STD, generator)
            filled.update(module.modules())
        else:
            for parameter in module.parameters(recurse=False):
                parameter.normal_(std=_DUMMY_STD, generator=generator)
