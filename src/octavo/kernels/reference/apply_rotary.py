"""Rotary position embedding (arXiv:2104.09864), in the half-split layout of the Llama checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor


def apply_rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate each pair (i, i + rotary_dim / 2) of a head by the angle of its position.

    Dimensions from rotary_dim on stay as they are (partial rotation).

    Args:
        query: ``[num_tokens, num_heads, head_dim]``.
        key: ``[num_tokens, num_kv_heads, head_dim]``.
        cos, sin: ``[num_tokens, rotary_dim]``, each angle twice: once for either half.

    Returns:
        The rotated query and key, new tensors of the same shapes.
    """
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return _rotate(query, cos, sin), _rotate(key, cos, sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    rotary_dim = cos.shape[-1]
    turned, rest = x[..., :rotary_dim], x[..., rotary_dim:]
    first, second = turned.chunk(2, dim=-1)
    return torch.cat((turned * cos + torch.cat((-second, first), dim=-1) * sin, rest), dim=-1)
