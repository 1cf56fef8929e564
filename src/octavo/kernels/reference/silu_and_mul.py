"""The gate of SwiGLU (arXiv:2002.05202)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def silu_and_mul(x: Tensor) -> Tensor:
    """Return ``silu(gate) * up`` for ``x = [gate, up]``.

    Args:
        x: ``[num_tokens, 2 * size]``.

    Returns:
        ``[num_tokens, size]``.
    """
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up
