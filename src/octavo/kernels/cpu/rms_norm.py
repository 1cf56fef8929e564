"""Root mean square layer normalisation, with the addition of the residual in the same pass."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.cpu.loading import load_native


def rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As :func:`octavo.kernels.reference.rms_norm`, for float32."""
    if weight.dtype is not torch.float32 or (residual is not None and residual.dtype is not torch.float32):
        raise TypeError("weight and residual must be torch.float32 as x is")
    size = weight.shape[0]
    if x.shape[-1] != size or not weight.is_contiguous() or (residual is not None and residual.shape != x.shape):
        raise TypeError(f"a weight of {size} numbers and a residual of x's shape are needed, x is {list(x.shape)}")
    normalised = torch.empty(x.shape)
    total = x if residual is None else torch.empty(x.shape)
    rows = _rows(x, size)
    residual_rows = rows if residual is None else _rows(residual, size)
    load_native().rms_norm(
        rows.data_ptr(),
        rows.stride(0),
        rows.shape[0],
        size,
        weight.data_ptr(),
        0 if residual is None else residual_rows.data_ptr(),
        residual_rows.stride(0),
        eps,
        total.data_ptr(),
        normalised.data_ptr(),
    )
    return normalised, total


def _rows(x: Tensor, size: int) -> Tensor:
    """Return ``x`` as ``[n, size]``, contiguous in its last dimension."""
    if x.dim() != 2:
        x = x.reshape(-1, size)
    return x if x.stride(1) == 1 else x.contiguous()
