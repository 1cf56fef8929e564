"""From stored blocks to the kinds of weights that the kernels compute with, without dequantising them.

Small integers stay as they are. Scales and offsets that are stored as float16 do so, too; where the file has a product
of a float16 and a small integer (the types with K), the product is rounded to float16 once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from octavo.models.gguf.dequantize import (
    floats,
    quants_of_q5,
    quants_of_q5_k,
    quants_of_q6_k,
    scales_and_minima,
    scales_of_q6_k,
)
from octavo.models.gguf.tensor_types import TensorType
from octavo.models.quantization.base import GroupedWeight, Int4Weight, Int8GroupsWeight
from octavo.models.quantization.mixed import empty_like

_NUMBERS_AT_ONCE = 2**20


def repack(rows: Tensor, kind: TensorType) -> GroupedWeight:
    """Return the weight that stored blocks stand for.

    Args:
        rows: ``[num_rows, row_bytes]`` uint8, whole blocks of ``kind``, which is not one of the plain types.

    Returns:
        An ``Int4Weight`` for four bits a number and an ``Int8GroupsWeight`` for more.
    """
    row_size = rows.shape[1] // kind.block_bytes * kind.block_size
    step = max(1, _NUMBERS_AT_ONCE // row_size)
    first = _repack(rows[:step], kind)
    if len(rows) <= step:
        return first
    whole = empty_like(first, len(rows))
    whole.copy_rows(0, first)
    for start in range(step, len(rows), step):
        whole.copy_rows(start, _repack(rows[start : start + step], kind))
    assert isinstance(whole, GroupedWeight)
    return whole


def _repack(rows: Tensor, kind: TensorType) -> GroupedWeight:
    weight = _REPACKERS[kind.name](rows.reshape(-1, kind.block_bytes))
    parts = {name: part.reshape(len(rows), -1) for name, part in weight.named_parameters()}
    return type(weight)(**parts)


def _half(numbers: Tensor) -> Tensor:
    return numbers.to(torch.float16)


def _pairs(quants: Tensor) -> Tensor:
    """Of bytes with number ``i`` and number ``i + n`` of ``2 n`` in their halves, return those with neighbours."""
    even, odd = quants[..., 0::2], quants[..., 1::2]
    return torch.cat((even & 15 | odd << 4, even >> 4 | odd & 240), dim=-1)


def _repack_q8_0(blocks: Tensor) -> GroupedWeight:
    return Int8GroupsWeight(blocks[:, 2:] ^ 128, _half(floats(blocks, 0)))


def _repack_q4_0(blocks: Tensor) -> GroupedWeight:
    return Int4Weight(_pairs(blocks[:, 2:]), _half(floats(blocks, 0)))


def _repack_q4_1(blocks: Tensor) -> GroupedWeight:
    return Int4Weight(_pairs(blocks[:, 4:]), _half(floats(blocks, 0)), offsets=_half(-floats(blocks, 2)))


def _repack_q5_0(blocks: Tensor) -> GroupedWeight:
    return Int8GroupsWeight(quants_of_q5(blocks[:, 2:]) + (128 - 16), _half(floats(blocks, 0)))


def _repack_q5_1(blocks: Tensor) -> GroupedWeight:
    return Int8GroupsWeight(quants_of_q5(blocks[:, 4:]), _half(floats(blocks, 0)), offsets=_half(-floats(blocks, 2)))


def _repack_q4_k(blocks: Tensor) -> GroupedWeight:
    scales, minima = scales_and_minima(blocks)
    quants = _pairs(blocks[:, 16:].reshape(-1, 4, 32))
    return Int4Weight(quants.flatten(1), _half(scales).flatten(1), offsets=_half(minima).flatten(1))


def _repack_q5_k(blocks: Tensor) -> GroupedWeight:
    scales, minima = scales_and_minima(blocks)
    return Int8GroupsWeight(quants_of_q5_k(blocks), _half(scales).flatten(1), offsets=_half(minima).flatten(1))


def _repack_q6_k(blocks: Tensor) -> GroupedWeight:
    return Int8GroupsWeight(quants_of_q6_k(blocks) + (128 - 32), _half(scales_of_q6_k(blocks)))


_REPACKERS: dict[str, Callable[[Tensor], GroupedWeight]] = {
    "Q8_0": _repack_q8_0,
    "Q4_0": _repack_q4_0,
    "Q4_1": _repack_q4_1,
    "Q5_0": _repack_q5_0,
    "Q5_1": _repack_q5_1,
    "Q4_K": _repack_q4_k,
    "Q5_K": _repack_q5_k,
    "Q6_K": _repack_q6_k,
}
