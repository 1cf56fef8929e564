"""Repetition, frequency and presence penalties."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.sampling_rows import PenaltyRows


def apply_penalties(logits: Tensor, penalties: PenaltyRows) -> None:
    """Change the logits of tokens that prompt or output have, in place and in vLLM's order.

    Args:
        logits: ``[num_rows, vocab_size]`` float32.
    """
    vocab_size = logits.shape[-1]
    positions = torch.arange(penalties.token_ids.shape[1], device=logits.device)
    known = positions < penalties.lens[:, None]
    is_output = known & (positions >= penalties.prompt_lens[:, None])
    token_ids = penalties.token_ids.long().masked_fill_(~known, 0)
    shape = (token_ids.shape[0], vocab_size)
    output_counts = torch.zeros(shape, device=logits.device).scatter_add_(1, token_ids, is_output.float())
    seen = torch.zeros(shape, device=logits.device).scatter_add_(1, token_ids, known.float()) > 0

    rows = logits[penalties.rows]
    repetition = torch.where(seen, penalties.repetition[:, None], 1.0)
    rows = torch.where(rows > 0, rows / repetition, rows * repetition)
    rows -= penalties.frequency[:, None] * output_counts
    rows -= penalties.presence[:, None] * (output_counts > 0)
    logits[penalties.rows] = rows
