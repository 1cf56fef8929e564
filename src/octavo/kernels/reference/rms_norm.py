"""Root mean square layer normalisation (arXiv:1910.07467)."""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Add the residual, if there is one, and normalise the sum over its last dimension.

    The mean square is taken in float32, whatever the type of ``x``.

    Args:
        x: ``[..., size]``.
        weight: ``[size]``.
        residual: ``[..., size]``.

    Returns:
        The normalised sum and the sum itself, both ``[..., size]`` in the type of ``x``.
    """
    total = x if residual is None else x + residual
    wide = total.to(torch.float32)
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * (wide * scale).to(x.dtype), total
