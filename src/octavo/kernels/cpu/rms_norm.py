"""Root mean square layer normalisation, with the addition of the residual in the same pass."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import address_of
from octavo.kernels.cpu.loading import load_native


def rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As :func:`octavo.kernels.reference.rms_norm`, for float32."""
    if residual is not None and residual.shape != x.shape:
        raise TypeError(f"a residual of shape {list(x.shape)} is needed, not {list(residual.shape)}")
    if x.dim() != 2:
        size = x.shape[-1]
        normalised, total = rms_norm(
            x.reshape(-1, size), weight, eps, None if residual is None else residual.reshape(-1, size)
        )
        return normalised.view(x.shape), total.view(x.shape)
    num_rows, size = x.shape
    if not (x.dtype is weight.dtype is torch.float32) or weight.shape != (size,):
        raise TypeError(f"x and a weight of {size} numbers must be torch.float32, not {x.dtype} and {weight.dtype}")
    x, weight = _with_dense_rows(x), weight.contiguous()
    normalised = torch.empty(num_rows, size)
    total = x
    if residual is not None:
        if residual.dtype is not torch.float32:
            raise TypeError(f"the residual must be torch.float32, not {residual.dtype}")
        residual = _with_dense_rows(residual)
        total = torch.empty(num_rows, size)
    load_native().rms_norm(
        x.data_ptr(),
        x.stride(0),
        num_rows,
        size,
        weight.data_ptr(),
        address_of(residual),
        0 if residual is None else residual.stride(0),
        eps,
        total.data_ptr(),
        normalised.data_ptr(),
    )
    return normalised, total


def _with_dense_rows(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()
