"""How tensors are stored in a GGUF file: in blocks of some elements, each in some bytes."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.errors import ModelError


@dataclass(frozen=True, slots=True)
class TensorType:
    """One way to store numbers.

    Attributes:
        name: as ggml calls it, such as ``Q4_K``.
        block_size: elements in one block; a row of a tensor is a whole number of blocks.
        block_bytes: bytes of one block.
    """

    name: str
    block_size: int
    block_bytes: int


TENSOR_TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    30: TensorType("BF16", 1, 2),
}
"""The types that are read, by their number in a file."""

_OTHER_NAMES = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}


def tensor_type(number: int, *, tensor: str, source: str) -> TensorType:
    """Return a type by its number in a file.

    Args:
        tensor, source: the tensor and the file that have it, for the message.

    Raises:
        ModelError: the type is not supported, or there is none of this number.
    """
    if number in TENSOR_TYPES:
        return TENSOR_TYPES[number]
    name = _OTHER_NAMES.get(number, f"number {number}, which no version of ggml is known to have")
    supported = ", ".join(known.name for known in TENSOR_TYPES.values())
    raise ModelError(f"{source}: tensor {tensor} has the type {name}. Supported are {supported}.")
