"""From the vectors of a text's tokens to one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from octavo.models.pooling_config import PoolingType


def pool(hidden: Tensor, groups: Sequence[tuple[int, int]], pooling_type: PoolingType) -> Tensor:
    """Return the vector of each sequence.

    Args:
        hidden: ``[num_tokens, hidden_size]``, sequences of equal length side by side.
        groups: ``(number of sequences, their length)`` in the order of the tokens.
        pooling_type: the first token's vector, the last one's, or the mean of all.

    Returns:
        ``[num_seqs, hidden_size]`` float32.
    """
    pooled = []
    for (count, length), part in zip(groups, torch.split(hidden, [n * size for n, size in groups]), strict=True):
        tokens = part.view(count, length, -1)
        match pooling_type:
            case "cls":
                pooled.append(tokens[:, 0].float())
            case "last":
                pooled.append(tokens[:, -1].float())
            case "mean":
                pooled.append(tokens.float().mean(1))
    return torch.cat(pooled)
