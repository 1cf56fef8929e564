"""Refuses tensors that the kernels would misread: they see an address and the stride of the first dimension."""

from __future__ import annotations

import torch
from torch import Tensor


def check_float32(tensor: Tensor, name: str, shape: tuple[int, ...]) -> None:
    """Refuse what is not float32 of this shape, on the CPU, with the numbers of a row side by side.

    Raises:
        TypeError: it is not.
    """
    if (
        tensor.dtype is not torch.float32
        or tensor.shape != shape
        or (tensor.stride(-1) != 1 and shape[-1] > 1)
        or not tensor.is_cpu
    ):
        raise TypeError(
            f"{name} must be torch.float32 {list(shape)} on the CPU, contiguous in its last dimension, "
            f"not {describe(tensor)}"
        )


def check_token_ids(token_ids: Tensor) -> None:
    """Refuse what is not ``[num_tokens]`` int64 on the CPU.

    Raises:
        TypeError: it is not.
    """
    if token_ids.dtype != torch.int64 or token_ids.dim() != 1 or not token_ids.is_cpu:
        raise TypeError(f"token ids of torch.int64 [num_tokens] on the CPU are needed, not {describe(token_ids)}")


def check_rows(first_row: int, num_rows: int, out_features: int) -> None:
    """Refuse rows that a weight with ``out_features`` rows does not have.

    Raises:
        ValueError: it does not have them.
    """
    if not 0 <= first_row <= out_features - num_rows:
        raise ValueError(f"rows {first_row} to {first_row + num_rows} of a weight with {out_features} rows")


def address_of(tensor: Tensor | None) -> int:
    """Return where a tensor's numbers are, 0 if there is none."""
    return 0 if tensor is None else tensor.data_ptr()


def describe(tensor: Tensor) -> str:
    """Say of a tensor what decides whether a kernel can read it."""
    return f"{tensor.dtype} {list(tensor.shape)} with strides {tensor.stride()} on {tensor.device.type}"
