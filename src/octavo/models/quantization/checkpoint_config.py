"""What the ``quantization_config`` of a ``config.json`` says of a checkpoint that is quantised already.

The field names are those of AutoGPTQ, GPTQModel and AutoAWQ. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from octavo.errors import ModelError
from octavo.models.config_fields import ConfigFields

if TYPE_CHECKING:
    from octavo.models.gguf.tensor_types import TensorType

_HEAD = "lm_head"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointQuantization:
    """How the linear layers of a checkpoint are packed.

    Attributes:
        method: the packing.
        bits: of one value: 4, in GPTQ also 8.
        group_size: inputs that share a scale; None is all of them.
        has_input_order: GPTQ's ``desc_act``: groups hold inputs that do not lie side by side.
        zero_offset: what has to be added to the stored zero points.
        quantizes_head: the matrix of the logits is packed too.
    """

    method: Literal["gptq", "awq"]
    bits: int
    group_size: int | None
    has_input_order: bool = False
    zero_offset: int = 0
    quantizes_head: bool = False


@dataclass(frozen=True, slots=True)
class GgufQuantization:
    """How the matrices of a GGUF file are stored.

    Attributes:
        types: of those that are stored in blocks, by their checkpoint names.
    """

    types: Mapping[str, TensorType]
    method: Literal["gguf"] = "gguf"


def read_quantization(fields: ConfigFields, *, tied_head: bool) -> CheckpointQuantization | None:
    """Read the ``quantization_config`` of a ``config.json``; None if there is none.

    Args:
        tied_head: the matrix of the logits is the embedding's.

    Raises:
        ModelError: the method, or a variant of it, is not supported.
    """
    section = fields.section("quantization_config")
    if section is None:
        return None
    method = section.raw("quant_method")
    if not isinstance(method, str) or method not in _READERS:
        raise ModelError(
            f"{section.source}: the checkpoint is quantized with quant_method {method!r}. Supported are "
            f"{' and '.join(_READERS)} checkpoints, and those that are not quantized; --quantization int8 or int4 "
            "quantizes the latter while they are loaded."
        )
    quantization = _READERS[method](section)
    if quantization.quantizes_head and tied_head:
        raise section.error(_HEAD, "false, since tie_word_embeddings is true")
    return quantization


def _read_gptq(section: ConfigFields) -> CheckpointQuantization:
    if section.boolean("is_marlin_format", False):
        raise section.error("is_marlin_format", "false: convert the checkpoint to the format 'gptq'")
    if section.raw("dynamic"):
        raise section.error("dynamic", "empty: all linear layers must be packed alike")
    zero_offsets = {"gptq": "1", "gptq_v2": "0"}
    return CheckpointQuantization(
        method="gptq",
        bits=_one_of(section, "bits", (4, 8)),
        group_size=_group_size(section),
        has_input_order=section.boolean("desc_act", False),
        zero_offset=int(section.choice("checkpoint_format", zero_offsets, default="1")),
        quantizes_head=section.boolean(_HEAD, False),
    )


def _read_awq(section: ConfigFields) -> CheckpointQuantization:
    version = section.raw("version")
    if version is not None and (not isinstance(version, str) or version.lower() != "gemm"):
        raise section.error("version", "'gemm'")
    if not section.boolean("zero_point", True):
        raise section.error("zero_point", "true")
    dense = section.raw("modules_to_not_convert") or []
    if not isinstance(dense, list) or any(name != _HEAD for name in dense):
        raise section.error("modules_to_not_convert", f"empty or [{_HEAD!r}]: all layers must be packed alike")
    return CheckpointQuantization(method="awq", bits=_one_of(section, "bits", (4,)), group_size=_group_size(section))


_READERS: dict[str, Callable[[ConfigFields], CheckpointQuantization]] = {"gptq": _read_gptq, "awq": _read_awq}


def _one_of(section: ConfigFields, name: str, allowed: tuple[int, ...]) -> int:
    value = section.raw(name)
    if isinstance(value, bool) or value not in allowed:
        raise section.error(name, " or ".join(map(str, allowed)))
    return int(value)


def _group_size(section: ConfigFields) -> int | None:
    value = section.raw("group_size")
    if value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % 32 != 0:
        raise section.error("group_size", "-1 or a multiple of 32")
    return value
