"""The gate of GeGLU (arXiv:2002.05202), with the approximation of the GELU by a hyperbolic tangent."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def gelu_tanh_and_mul(x: Tensor) -> Tensor:
    """Return ``gelu(gate) * up`` for ``x = [gate, up]``.

    ``gelu(x)`` is ``x / 2 * (1 + tanh(√(2/π) (x + 0.044715 x³)))``.

    Args:
        x: ``[num_tokens, 2 * size]``.

    Returns:
        ``[num_tokens, size]``.
    """
    gate, up = x.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up
