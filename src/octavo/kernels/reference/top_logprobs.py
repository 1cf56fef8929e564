"""Log-probabilities of given and of the most likely tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def top_logprobs(logits: Tensor, token_ids: Tensor, num_top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-probabilities of each row's token and of its most likely tokens.

    Args:
        logits: ``[num_rows, vocab_size]`` float32.
        token_ids: ``[num_rows]`` int64.
        num_top: how many of the most likely tokens, at most ``vocab_size``.

    Returns:
        Log-probabilities and token ids ``[num_rows, 1 + num_top]``, the given token first and then the most likely
        ones, and the ranks ``[num_rows]`` of the given tokens, 1 for the most likely.
    """
    logprobs = logits.log_softmax(dim=-1)
    given = token_ids[:, None]
    given_logprobs = logprobs.gather(1, given)
    ranks = (logprobs > given_logprobs).sum(dim=-1) + 1
    top = logprobs.topk(num_top, dim=-1)
    return torch.cat([given_logprobs, top.values], dim=1), torch.cat([given, top.indices], dim=1), ranks
