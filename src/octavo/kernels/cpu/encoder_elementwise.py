"""Layer normalisation and GELU, each in one pass with the native module's own threads."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import check_float32
from octavo.kernels.cpu.loading import load_native


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None = None) -> Tensor:
    """As :func:`octavo.kernels.reference.layer_norm`, for float32."""
    num_tokens, size = x.shape
    x = x.contiguous()
    check_float32(x, "x", (num_tokens, size))
    for name, vector in (("weight", weight), ("bias", bias)):
        check_float32(vector, name, (size,))
    if residual is not None:
        residual = residual.contiguous()
        check_float32(residual, "residual", (num_tokens, size))
    output = torch.empty(num_tokens, size)
    load_native().layer_norm(
        x.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        num_tokens,
        size,
        weight.data_ptr(),
        bias.data_ptr(),
        eps,
        output.data_ptr(),
    )
    return output


def gelu(x: Tensor) -> Tensor:
    """As :func:`octavo.kernels.reference.gelu`, for float32, to about 1e-6 of an entry's size."""
    x = x.contiguous()
    check_float32(x, "x", tuple(x.shape))
    output = torch.empty_like(x)
    load_native().gelu(x.data_ptr(), x.numel(), output.data_ptr())
    return output
