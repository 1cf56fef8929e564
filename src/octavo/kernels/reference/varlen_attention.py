"""Attention of encoders, over whole sequences laid end to end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def varlen_attention(qkv: Tensor, groups: Sequence[tuple[int, int]], head_dim: int) -> Tensor:
    """Let each token attend to all tokens of its sequence (arXiv:1706.03762, both directions).

    Args:
        qkv: ``[num_tokens, 3 * num_heads * head_dim]``: query, key and value of each token.
        groups: ``(number of sequences, their length)`` in the order of the tokens; those of a group are one batch here.

    Returns:
        ``[num_tokens, num_heads * head_dim]``.
    """
    sizes = [count * length for count, length in groups]
    outputs = []
    for (count, length), tokens in zip(groups, torch.split(qkv, sizes), strict=True):
        query, key, value = tokens.view(count, length, 3, -1, head_dim).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        outputs.append(attended.transpose(1, 2).reshape(count * length, -1))
    return torch.cat(outputs)
