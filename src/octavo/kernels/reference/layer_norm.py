"""Layer normalisation (arXiv:1607.06450), with the addition that goes before it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None = None) -> Tensor:
    """Return the normalised ``x + residual``, scaled by ``weight`` and shifted by ``bias``.

    Args:
        x, residual: ``[num_tokens, size]``.
        weight, bias: ``[size]``.
    """
    total = x if residual is None else x + residual
    return F.layer_norm(total, weight.shape, weight, bias, eps)
