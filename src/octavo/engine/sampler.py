"""From logits to tokens, vectorised over the batch.

Each row is treated by its own parameters alone, and its randomness depends on its seed and its output position alone,
so what a request samples does not depend on what else is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from octavo import kernels
from octavo.engine.messages import TokenLogprobs
from octavo.kernels.sampling_rows import SamplingRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from octavo.engine.sampling_params import SamplingParams
    from octavo.engine.structured.masks import AllowedTokens
    from octavo.kernels.sampling_rows import PenaltyRows

# Beyond any vocabulary there is nothing more to choose from.
_MAX_TOP_K = 2**31 - 1


@dataclass(frozen=True, slots=True)
class SamplingBatch:
    """Parameters of ``num_samples`` rows of logits.

    Attributes:
        rows: temperature, filters and randomness of each row.
        biases: (row indexes, token ids, values to add to their logits), as three lists, or None.
        allowed: (row, the only token ids that it may choose) of the rows that are limited so.
        num_logprobs: for each row how many most likely tokens to report, None for rows that want none; or None if no
            row wants any.
        grammar_mask: what grammars allow in the rows that have one, or None.
    """

    rows: SamplingRows
    penalties: PenaltyRows | None = None
    biases: tuple[list[int], list[int], list[float]] | None = None
    allowed: Sequence[tuple[int, list[int]]] = ()
    num_logprobs: list[int | None] | None = None
    grammar_mask: AllowedTokens | None = None


def sampling_numbers(params: SamplingParams, seed: int) -> tuple[float, float, float, int, int]:
    """Return temperature (0 if greedy), top-p, min-p, top-k and the seed as ``SamplingRows`` hold them."""
    temperature = 0.0 if params.is_greedy else params.temperature
    signed_seed = (seed + 2**63) % 2**64 - 2**63
    return temperature, params.top_p, params.min_p, min(params.top_k, _MAX_TOP_K), signed_seed


def make_sampling_rows(random: Sequence[SamplingParams], **columns: Tensor) -> SamplingRows:
    """Return rows with what is known of all of them.

    Args:
        random: parameters of the rows that are not greedy, in any order.
        columns: the tensors of ``SamplingRows``.
    """
    return SamplingRows(
        **columns,
        all_greedy=not random,
        max_top_k=max((params.top_k for params in random), default=0),
        any_top_p=any(params.top_p < 1 for params in random),
        any_min_p=any(params.min_p > 0 for params in random),
    )


def sample(logits: Tensor, batch: SamplingBatch) -> tuple[Tensor, list[TokenLogprobs | None] | None]:
    """Choose one token a row.

    Args:
        logits: ``[num_samples, vocab_size]`` float32; may be overwritten.

    Returns:
        Token ids ``[num_samples]`` int64, and log-probabilities of the model's own distribution (before bias,
        penalties and temperature) for the rows that want them.
    """
    changes_logits = (
        batch.biases is not None or batch.penalties is not None or batch.grammar_mask is not None or batch.allowed
    )
    raw_logits = logits.clone() if changes_logits and batch.num_logprobs is not None else logits
    if batch.biases is not None:
        rows, tokens, values = (torch.tensor(part, device=logits.device) for part in batch.biases)
        logits.index_put_((rows, tokens), values.to(logits.dtype), accumulate=True)
    if batch.penalties is not None:
        kernels.apply_penalties(logits, batch.penalties)
    for row, allowed_token_ids in batch.allowed:
        chosen = torch.tensor(allowed_token_ids, device=logits.device)
        logits[row] = torch.full_like(logits[row], -torch.inf).index_copy_(0, chosen, logits[row, chosen])
    if batch.grammar_mask is not None:
        batch.grammar_mask.apply(logits, revive=batch.biases is not None or bool(batch.allowed))
    token_ids = kernels.sample_tokens(logits, batch.rows)
    if batch.num_logprobs is None:
        return token_ids, None
    return token_ids, gather_logprobs(raw_logits, token_ids, batch.num_logprobs)


def gather_logprobs(logits: Tensor, token_ids: Tensor, num_logprobs: list[int | None]) -> list[TokenLogprobs | None]:
    """Return the log-probabilities of each row's token and of its most likely tokens.

    Args:
        logits: ``[num_rows, vocab_size]`` float32.
        token_ids: ``[num_rows]`` int64, the tokens sampled.
    """
    wanted = [row for row, count in enumerate(num_logprobs) if count is not None]
    if len(wanted) < len(num_logprobs):
        rows = torch.tensor(wanted, device=logits.device)
        logits, token_ids = logits[rows], token_ids[rows]
    max_count = min(max(count or 0 for count in num_logprobs), logits.shape[-1])
    values, ids, ranks = kernels.top_logprobs(logits, token_ids, max_count)
    result: list[TokenLogprobs | None] = [None] * len(num_logprobs)
    for row, row_ids, row_values, rank in zip(wanted, ids.tolist(), values.tolist(), ranks.tolist(), strict=True):
        keep = 1 + (num_logprobs[row] or 0)
        result[row] = TokenLogprobs(row_ids[:keep], row_values[:keep], rank)
    return result
