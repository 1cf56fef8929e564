"""What linear layers over weights of every format have in common: where results go, and what is added to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import address_of, check_float32, check_token_ids

OutputArguments: TypeAlias = tuple[int, int, int, int, int]
"""Address and stride of the result, address of the bias, address and stride of the residual."""


def prepare_output(
    shape: tuple[int, int], out_features: int, bias: Tensor | None, residual: Tensor | None, out: Tensor | None
) -> tuple[Tensor, OutputArguments]:
    """Return the tensor that a result of this shape is written to, and what the kernels take for it.

    Args:
        out_features: of the weight, and so of the bias and of the residual.

    Raises:
        TypeError: a tensor has another type or shape.
    """
    if out is None:
        out = torch.empty(shape)
    else:
        check_float32(out, "out", shape)
    if bias is not None:
        check_float32(bias, "bias", (out_features,))
    if residual is not None:
        check_float32(residual, "residual", (shape[0], out_features))
    residual_stride = 0 if residual is None else residual.stride(0)
    return out, (out.data_ptr(), out.stride(0), address_of(bias), address_of(residual), residual_stride)


def gather_rows(token_ids: Tensor, in_features: int, gather: Callable[[int, int, int, int], None]) -> Tensor:
    """Return rows of a packed table.

    Args:
        token_ids: ``[num_tokens]`` int64.
        gather: takes the address of the ids, their number, the address of the result and its stride.

    Returns:
        ``[num_tokens, in_features]`` float32.

    Raises:
        IndexError: an id is not a row of the table.
    """
    check_token_ids(token_ids)
    token_ids = token_ids.contiguous()
    out = torch.empty((token_ids.shape[0], in_features))
    gather(token_ids.data_ptr(), token_ids.shape[0], out.data_ptr(), out.stride(0))
    return out
