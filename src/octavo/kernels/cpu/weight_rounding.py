"""From dense weights to int8 and int4, on all threads: the numbers that ``models/quantization/rounding.py`` has."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import describe
from octavo.kernels.cpu.linear import WEIGHT_DTYPES
from octavo.kernels.cpu.loading import load_native

GROUP_SIZES = (32, 64, 128)


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round ``[out_features, in_features]`` with a scale for each row: its largest magnitude becomes 127.

    Args:
        weight: float32, bfloat16 or float16 on the CPU, finite.

    Returns:
        Values ``[out_features, in_features]`` int8 and scales ``[out_features]`` float32.

    Raises:
        TypeError: weights of another type or on another device.
    """
    weight = _readable(weight)
    num_rows, num_columns = weight.shape
    values = torch.empty((num_rows, num_columns), dtype=torch.int8)
    scales = torch.empty(num_rows)
    load_native().round_to_int8(
        weight.data_ptr(),
        str(weight.dtype).removeprefix("torch."),
        num_rows,
        num_columns,
        weight.stride(0),
        values.data_ptr(),
        scales.data_ptr(),
    )
    return values, scales


def quantize_int4(weight: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Round ``[out_features, in_features]`` with the zero point 8 and a scale of least squared error for each group.

    Args:
        weight: float32, bfloat16 or float16 on the CPU, finite.
        group_size: inputs that share a scale: 32, 64 or 128; it divides ``in_features``.

    Returns:
        Values ``[out_features, in_features / 2]`` uint8, two a byte with the even input in the low four bits, and
        scales ``[out_features, in_features / group_size]`` float16.

    Raises:
        TypeError: weights of another type or on another device.
        ValueError: such groups cannot be made.
    """
    weight = _readable(weight)
    num_rows, num_columns = weight.shape
    if group_size not in GROUP_SIZES or num_columns % group_size:
        raise ValueError(f"{num_columns} inputs cannot be quantized in groups of {group_size}; {GROUP_SIZES} may fit")
    values = torch.empty((num_rows, num_columns // 2), dtype=torch.uint8)
    scales = torch.empty((num_rows, num_columns // group_size), dtype=torch.float16)
    load_native().round_to_int4(
        weight.data_ptr(),
        str(weight.dtype).removeprefix("torch."),
        num_rows,
        num_columns,
        weight.stride(0),
        group_size,
        values.data_ptr(),
        scales.data_ptr(),
    )
    return values, scales


def _readable(weight: Tensor) -> Tensor:
    """Return the weight with the numbers of a row side by side."""
    if weight.dtype not in WEIGHT_DTYPES or weight.dim() != 2 or not weight.is_cpu:
        raise TypeError(
            f"a weight of float32, bfloat16 or float16 [out_features, in_features] on the CPU is needed, "
            f"not {describe(weight)}"
        )
    return weight if weight.stride(1) == 1 else weight.contiguous()
