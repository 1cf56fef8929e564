"""Logits of tokens that must not be sampled."""

from __future__ import annotations

import torch
from torch import Tensor


def apply_token_bitmask(logits: Tensor, rows: Tensor, bitmask: Tensor) -> None:
    """Set the logits of tokens whose bit is not set to minus infinity, in place.

    Args:
        logits: ``[num_logits, vocab_size]`` float32.
        rows: ``[num_rows]`` int64, rows of the logits, each at most once.
        bitmask: ``[num_rows, ceil(vocab_size / 32)]`` int32; token ``32 i + j`` is bit ``j`` of word ``i``.
    """
    bits_of_word = torch.arange(32, dtype=torch.int32, device=bitmask.device)
    allowed = (bitmask[:, :, None] >> bits_of_word & 1).bool().flatten(1)[:, : logits.shape[1]]
    logits[rows] = logits[rows].masked_fill_(~allowed, -torch.inf)
