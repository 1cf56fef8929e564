"""From the ``quantization`` setting and what a checkpoint is to the formats of a model's weights."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.errors import ConfigError
from octavo.models.gguf.linear_format import GgufFormat
from octavo.models.quantization.base import Dense, LinearFormat
from octavo.models.quantization.checkpoint_config import CheckpointQuantization, GgufQuantization
from octavo.models.quantization.packed import Awq, Gptq
from octavo.models.quantization.rounding import RoundedInt4, RoundedInt8

METHODS_WHILE_LOADING = ("int8", "int4")
_CheckpointQuantization = CheckpointQuantization | GgufQuantization


@dataclass(frozen=True, slots=True)
class WeightFormats:
    """The formats of a model's matrices. Embeddings, norms and biases are never quantised.

    Attributes:
        method: the quantisation's name; None if there is none.
        linear: of the linear layers.
        head: of the matrix that gives the logits.
    """

    method: str | None
    linear: LinearFormat
    head: LinearFormat


UNQUANTIZED = WeightFormats(None, Dense(), Dense())


def choose_formats(setting: str | None, checkpoint: _CheckpointQuantization | None) -> WeightFormats:
    """Return the formats for a ``quantization`` setting and a checkpoint.

    The matrices of a GGUF file can be rounded anew; those of other quantised checkpoints cannot.

    Raises:
        ConfigError: the checkpoint is quantised in another way than the setting says.
    """
    if isinstance(checkpoint, GgufQuantization) and setting in (None, checkpoint.method):
        if not checkpoint.types:
            return UNQUANTIZED
        stored = GgufFormat(checkpoint.types)
        return WeightFormats(checkpoint.method, stored, stored)
    if isinstance(checkpoint, CheckpointQuantization):
        if setting not in (None, checkpoint.method):
            raise ConfigError(
                f"quantization={setting} was asked for, but the checkpoint is already quantized with "
                f"{checkpoint.method}. Leave the setting out, or use the model's original checkpoint."
            )
        packed = _packed_format(checkpoint)
        return WeightFormats(checkpoint.method, packed, packed if checkpoint.quantizes_head else Dense())
    if setting is None:
        return UNQUANTIZED
    if setting not in METHODS_WHILE_LOADING:
        raise ConfigError(
            f"quantization={setting} was asked for, but the checkpoint is not quantized. Use a checkpoint that is, or "
            f"one of {', '.join(METHODS_WHILE_LOADING)} to quantize this one while it is loaded."
        )
    return WeightFormats(setting, RoundedInt8() if setting == "int8" else RoundedInt4(), RoundedInt8())


def _packed_format(checkpoint: CheckpointQuantization) -> LinearFormat:
    if checkpoint.method == "awq":
        return Awq(checkpoint.bits, checkpoint.group_size)
    return Gptq(
        checkpoint.bits,
        checkpoint.group_size,
        zero_offset=checkpoint.zero_offset,
        has_input_order=checkpoint.has_input_order,
    )
