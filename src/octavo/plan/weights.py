"""How many bytes weights take, unpacked and under the usual methods of quantization.

Quantization packs the matrices of the layers. Embeddings, the head, norms, routers and biases stay in 16 (or 32) bits,
as the published checkpoints of these methods have them. ``int8`` and ``int4`` are what this engine makes of a
checkpoint while it loads: they pack the head, too, and with it an embedding that is the same matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from octavo.errors import ConfigError, nearest_name
from octavo.plan.model_shape import Linear, ModelShape

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Quantization:
    """A way to pack a matrix.

    Attributes:
        name: what users call it.
        bits: bits of one weight.
        group_size: inputs that share a scale within one output; 0 if all do.
        scale_bits: bits of a scale, and of a zero point beside it if there is one.
        compute: type that matrix products run in: fp8, int8, fp4, or 16bit where weights are unpacked first.
        experts_only: whether only the experts of mixtures are packed.
        block_outputs: outputs that share a scale.
        head: how the matrix that makes logits is packed; None if it is not.
    """

    name: str
    bits: int
    group_size: int
    scale_bits: float
    compute: str
    experts_only: bool = False
    block_outputs: int = 1
    head: Quantization | None = None

    def packs(self, linear: Linear) -> bool:
        """Return whether a matrix is packed at all."""
        return linear.is_expert or not self.experts_only

    def num_bytes(self, linear: Linear) -> int:
        """Return the bytes of the packed matrices, scales included."""
        groups = -(-linear.in_features // self.group_size) if self.group_size else 1
        scales = groups * -(-linear.out_features // self.block_outputs)
        bits = linear.in_features * linear.out_features * self.bits + scales * self.scale_bits
        return linear.count * int(-(-bits // 8))


# One float32 scale an output for the 8-bit types; AWQ and GPTQ: a 16-bit scale and a 4-bit zero point for each group of
# 128; the 4-bit floats: an 8-bit scale for each block (OCP Microscaling 1.0: 32; NVFP4: 16). int4 has a 16-bit scale
# for each group of 64.
_INT8 = Quantization("int8", 8, 0, 32, "int8")
QUANTIZATIONS: Mapping[str, Quantization] = {
    "fp8": Quantization("fp8", 8, 0, 32, "fp8"),
    "int8": replace(_INT8, head=_INT8),
    "int4": Quantization("int4", 4, 64, 16, "16bit", head=_INT8),
    "awq": Quantization("awq", 4, 128, 20, "16bit"),
    "gptq": Quantization("gptq", 4, 128, 20, "16bit"),
    "mxfp4": Quantization("mxfp4", 4, 32, 8, "fp4"),
    "nvfp4": Quantization("nvfp4", 4, 16, 8, "fp4"),
}


def quantization_named(name: str) -> Quantization:
    """Return a method by its name.

    Raises:
        ConfigError: there is no such method.
    """
    if name not in QUANTIZATIONS:
        near = nearest_name(name, QUANTIZATIONS)
        raise ConfigError(
            f"quantization {name!r} is not known; known are {', '.join(QUANTIZATIONS)}"
            + (f". Did you mean {near}?" if near else "")
        )
    return QUANTIZATIONS[name]


def checkpoint_quantization(shape: ModelShape) -> Quantization | None:
    """Return how a checkpoint's own weights are packed, as its ``quantization_config`` says; None if they are not.

    Raises:
        ConfigError: the method is not known, or has another number of bits than it usually has.
    """
    config = shape.quantization_config
    if not config:
        return None
    method = str(config.get("quant_method", "unknown"))
    bits, group_size = config.get("bits"), config.get("group_size")
    if method in ("awq", "gptq") and isinstance(bits, int) and isinstance(group_size, int):
        return Quantization(method, bits, max(group_size, 0), 16 + bits, "16bit")
    if method == "fp8" and isinstance(block := config.get("weight_block_size"), list) and len(block) == 2:
        outputs, inputs = block
        return Quantization("fp8", 8, int(inputs), 32, "fp8", block_outputs=int(outputs))
    if method == "fp8":
        return QUANTIZATIONS["fp8"]
    if method == "mxfp4":
        return Quantization("mxfp4", 4, 32, 8, "fp4", experts_only=True)
    raise ConfigError(
        f"the checkpoint is quantized with {method!r}, which the planner does not know. Known are awq, fp8, gptq and "
        f"mxfp4. Name the method with --quantization ({', '.join(QUANTIZATIONS)})."
    )


def weight_bytes(shape: ModelShape, dtype: str, quantization: Quantization | None = None) -> int:
    """Return the bytes of all weights of a model.

    Args:
        dtype: type of what is not packed: float32, bfloat16 or float16.
        quantization: how the matrices are packed; None if they are not.
    """
    element = DTYPE_BYTES[dtype]
    matrices = sum(linear_bytes(linear, element, quantization) for linear in shape.linears())
    others = shape.num_unquantized_parameters - _head(shape).num_weights
    return others * element + head_bytes(shape, element, quantization) + matrices


def head_bytes(shape: ModelShape, element_bytes: int, quantization: Quantization | None) -> int:
    """Return the bytes of the matrix that makes logits, without a bias."""
    return linear_bytes(_head(shape), element_bytes, quantization.head if quantization else None)


def linear_bytes(linear: Linear, element_bytes: int, quantization: Quantization | None) -> int:
    """Return the bytes of a layer's matrices, without biases."""
    if quantization is None or not quantization.packs(linear):
        return linear.num_weights * element_bytes
    return quantization.num_bytes(linear)


def _head(shape: ModelShape) -> Linear:
    """Return the matrix that makes logits, which may be the embedding's."""
    return shape.lm_head or Linear(in_features=shape.hidden_size, out_features=shape.vocab_size)
