"""From stored blocks to numbers, for each tensor type; layouts as in ggml's ggml-common.h.

``d`` is the scale of a block, ``m`` what is added to or subtracted from each element, ``q`` are the small integers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from octavo.models.gguf.tensor_types import TensorType

_ELEMENTS_AT_ONCE = 2**18  # what fits in a cache is several times as fast


def dequantize(rows: Tensor, kind: TensorType, dtype: torch.dtype) -> Tensor:
    """Return the numbers of ``rows``.

    Args:
        rows: ``[num_rows, row_bytes]`` uint8, whole blocks.

    Returns:
        ``[num_rows, row_size]``. Values are computed in float32 and rounded once.
    """
    blocks = rows.reshape(-1, kind.block_bytes)
    numbers = torch.empty((blocks.shape[0], kind.block_size), dtype=dtype)
    decode = _DECODERS[kind.name]
    step = max(1, _ELEMENTS_AT_ONCE // kind.block_size)
    for start in range(0, blocks.shape[0], step):
        numbers[start : start + step] = decode(blocks[start : start + step])
    return numbers.view(rows.shape[0], -1)


def floats(blocks: Tensor, start: int) -> Tensor:
    """The float16 at byte ``start`` of each block, ``[num_blocks, 1]``."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def halves(quants: Tensor) -> Tensor:
    """Low four bits of all bytes, then the high ones: ``[…, n]`` to ``[…, 2 n]``."""
    return torch.cat((quants & 15, quants >> 4), dim=-1)


def bits(packed: Tensor) -> Tensor:
    """Bits of bytes, the lowest first: ``[…, n]`` to ``[…, 8 n]`` of 0 and 1."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-1) >> shifts & 1).flatten(-2)


def _decode_plain(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda blocks: blocks.contiguous().view(dtype)


def _decode_q8_0(blocks: Tensor) -> Tensor:
    """``d``, 32 signed bytes."""
    return floats(blocks, 0) * blocks[:, 2:].view(torch.int8)


def _decode_q4_0(blocks: Tensor) -> Tensor:
    """``d``, 32 times four bits."""
    return floats(blocks, 0) * (halves(blocks[:, 2:]).to(torch.int8) - 8)


def _decode_q4_1(blocks: Tensor) -> Tensor:
    """``d``, ``m``, 32 times four bits."""
    return floats(blocks, 0) * halves(blocks[:, 4:]) + floats(blocks, 2)


def _decode_q5_0(blocks: Tensor) -> Tensor:
    """``d``, 32 fifth bits, 32 times four bits."""
    return floats(blocks, 0) * (quants_of_q5(blocks[:, 2:]).to(torch.int8) - 16)


def _decode_q5_1(blocks: Tensor) -> Tensor:
    """``d``, ``m``, 32 fifth bits, 32 times four bits."""
    return floats(blocks, 0) * quants_of_q5(blocks[:, 4:]) + floats(blocks, 2)


def quants_of_q5(packed: Tensor) -> Tensor:
    """Of Q5_0 and Q5_1, from the fifth bits on: the integers ``[num_blocks, 32]``."""
    return halves(packed[:, 4:]) | bits(packed[:, :4]) << 4


def quants_of_q5_k(blocks: Tensor) -> Tensor:
    """The integers of the eight groups, ``[num_blocks, 8, 32]``."""
    fifth = bits(blocks[:, 16:48]).view(-1, 32, 8).transpose(1, 2)
    return halves(blocks[:, 48:].reshape(-1, 4, 32)).view(-1, 8, 32) | fifth << 4


def quants_of_q6_k(blocks: Tensor) -> Tensor:
    """The integers of the sixteen groups, ``[num_blocks, 16, 16]``, with 32 added."""
    low = halves(blocks[:, :128].reshape(-1, 2, 64)).view(-1, 2, 4, 32)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=blocks.device).unsqueeze(-1)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3
    return (low | high << 4).view(-1, 16, 16)


def scales_of_q6_k(blocks: Tensor) -> Tensor:
    """The scales of the groups, ``[num_blocks, 16]``."""
    return floats(blocks, 208) * blocks[:, 192:208].view(torch.int8)


def scales_and_minima(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Of Q4_K and Q5_K: ``d`` and ``m`` of the eight groups of 32, ``[num_blocks, 8, 1]`` each.

    Bytes 4 to 15 are eight scales and eight minima of six bits: the first four of each in the low bits of a byte; of
    the last four the low bits together in a byte, and the high ones above the first four.
    """
    first, second, last = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = torch.cat((first & 63, last & 15 | first >> 6 << 4), dim=-1)
    minima = torch.cat((second & 63, last >> 4 | second >> 6 << 4), dim=-1)
    return (floats(blocks, 0) * scales).unsqueeze(-1), (floats(blocks, 2) * minima).unsqueeze(-1)


def _decode_q4_k(blocks: Tensor) -> Tensor:
    """``d`` and ``m`` of the block, six bits of each for the groups, then four bits an element."""
    scales, minima = scales_and_minima(blocks)
    quants = halves(blocks[:, 16:].reshape(-1, 4, 32)).view(-1, 8, 32)
    numbers: Tensor = scales * quants - minima
    return numbers.flatten(1)


def _decode_q5_k(blocks: Tensor) -> Tensor:
    """As Q4_K, with a byte for each place in a group that holds the fifth bits of all groups."""
    scales, minima = scales_and_minima(blocks)
    numbers: Tensor = scales * quants_of_q5_k(blocks) - minima
    return numbers.flatten(1)


def _decode_q6_k(blocks: Tensor) -> Tensor:
    """Two halves of 128: low four bits in 64 bytes each, high two in 32 each; a scale for each 16 elements; ``d``."""
    quants = quants_of_q6_k(blocks).to(torch.int8) - 32
    return (scales_of_q6_k(blocks).unsqueeze(-1) * quants).flatten(1)


_DECODERS: dict[str, Callable[[Tensor], Tensor]] = {
    "F32": _decode_plain(torch.float32),
    "F16": _decode_plain(torch.float16),
    "BF16": _decode_plain(torch.bfloat16),
    "Q8_0": _decode_q8_0,
    "Q4_0": _decode_q4_0,
    "Q4_1": _decode_q4_1,
    "Q5_0": _decode_q5_0,
    "Q5_1": _decode_q5_1,
    "Q4_K": _decode_q4_k,
    "Q5_K": _decode_q5_k,
    "Q6_K": _decode_q6_k,
}
