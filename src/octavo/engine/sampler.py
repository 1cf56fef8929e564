"""From logits to tokens, vectorised over the batch.

Each row is treated by its own parameters alone, and its randomness depends on its seed and its output position alone,
so what a request samples does not depend on what else is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from octavo.engine.messages import TokenLogprobs

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.engine.structured.masks import ForbiddenTokens

_TOP_P_CANDIDATES = 1024


@dataclass(frozen=True, slots=True)
class Penalties:
    """Penalties of some rows of a batch.

    Attributes:
        rows: ``[num_penalized]`` int64, rows of the logits.
        token_ids: ``[num_penalized, max_len]`` int64, their known tokens; entries from ``lens`` on are ignored.
        prompt_lens, lens: ``[num_penalized]`` int64.
        presence, frequency, repetition: ``[num_penalized]`` float32.
    """

    rows: Tensor
    token_ids: Tensor
    prompt_lens: Tensor
    lens: Tensor
    presence: Tensor
    frequency: Tensor
    repetition: Tensor


@dataclass(frozen=True, slots=True)
class SamplingBatch:
    """Parameters of ``num_samples`` rows of logits.

    Attributes:
        temperature: ``[num_samples]`` float32; rows in ``greedy`` have 1.
        greedy: ``[num_samples]`` bool.
        top_k: ``[num_samples]`` int64, 0 for all.
        top_p, min_p: ``[num_samples]`` float32.
        seeds: ``[num_samples]`` int64.
        output_positions: ``[num_samples]`` int64, index of the token to sample in the output.
        all_greedy: whether every row is greedy.
        max_top_k: greatest ``top_k``, 0 if no row has one.
        any_top_p, any_min_p: whether some row uses them.
        biases: (row indexes, token ids, values to add to their logits), as three lists, or None.
        num_logprobs: for each row how many most likely tokens to report, None for rows that want none; or None if no
            row wants any.
        forbidden: what grammars forbid, or None.
    """

    temperature: Tensor
    greedy: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seeds: Tensor
    output_positions: Tensor
    all_greedy: bool
    max_top_k: int
    any_top_p: bool
    any_min_p: bool
    penalties: Penalties | None = None
    biases: tuple[list[int], list[int], list[float]] | None = None
    num_logprobs: list[int | None] | None = None
    forbidden: ForbiddenTokens | None = None


def sample(logits: Tensor, batch: SamplingBatch) -> tuple[Tensor, list[TokenLogprobs | None] | None]:
    """Choose one token a row.

    Args:
        logits: ``[num_samples, vocab_size]`` float32; may be overwritten.

    Returns:
        Token ids ``[num_samples]`` int64, and log-probabilities of the model's own distribution (before bias,
        penalties and temperature) for the rows that want them.
    """
    raw_logits = logits.clone() if batch.num_logprobs is not None else None
    if batch.biases is not None:
        rows, tokens, values = (torch.tensor(part, device=logits.device) for part in batch.biases)
        logits.index_put_((rows, tokens), values.to(logits.dtype), accumulate=True)
    if batch.penalties is not None:
        apply_penalties(logits, batch.penalties)
    if batch.forbidden is not None:
        batch.forbidden.apply(logits, revive=batch.biases is not None)
    token_ids = logits.argmax(dim=-1)
    if not batch.all_greedy:
        sampled = _sample_random(logits, batch)
        token_ids = torch.where(batch.greedy, token_ids, sampled)
    if raw_logits is None or batch.num_logprobs is None:
        return token_ids, None
    return token_ids, gather_logprobs(raw_logits, token_ids, batch.num_logprobs)


def apply_penalties(logits: Tensor, penalties: Penalties) -> None:
    """Apply repetition, frequency and presence penalties in place, in vLLM's order."""
    vocab_size = logits.shape[-1]
    positions = torch.arange(penalties.token_ids.shape[1], device=logits.device)
    known = positions < penalties.lens[:, None]
    is_output = known & (positions >= penalties.prompt_lens[:, None])
    token_ids = penalties.token_ids.masked_fill(~known, 0)
    shape = (token_ids.shape[0], vocab_size)
    output_counts = torch.zeros(shape, device=logits.device).scatter_add_(1, token_ids, is_output.float())
    seen = torch.zeros(shape, device=logits.device).scatter_add_(1, token_ids, known.float()) > 0

    rows = logits[penalties.rows]
    repetition = torch.where(seen, penalties.repetition[:, None], 1.0)
    rows = torch.where(rows > 0, rows / repetition, rows * repetition)
    rows -= penalties.frequency[:, None] * output_counts
    rows -= penalties.presence[:, None] * (output_counts > 0)
    logits[penalties.rows] = rows


def _sample_random(logits: Tensor, batch: SamplingBatch) -> Tensor:
    """Draw from each row's distribution by inverting its cumulative distribution at one uniform number.

    Filters are thresholds on the logits, so equal logits are kept or dropped together, and the result does not depend
    on how a sort breaks ties.
    """
    logits = logits / batch.temperature[:, None]
    if batch.any_min_p:
        floor = logits.amax(dim=-1, keepdim=True) + batch.min_p.log()[:, None]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    if batch.max_top_k:
        logits = _keep_top_k(logits, batch)
    if batch.any_top_p:
        logits = _keep_top_p(logits, batch.top_p)
    cumulative = torch.softmax(logits, dim=-1, dtype=torch.float32).to(torch.float64).cumsum(dim=-1)
    uniform = uniform_numbers(batch.seeds, batch.output_positions)
    target = uniform[:, None] * cumulative[:, -1:]
    token_ids = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return token_ids.clamp_(max=logits.shape[-1] - 1)


def _keep_top_k(logits: Tensor, batch: SamplingBatch) -> Tensor:
    vocab_size = logits.shape[-1]
    top_k = batch.top_k.clamp(max=vocab_size)
    top_values = torch.topk(logits, min(batch.max_top_k, vocab_size), dim=-1).values
    threshold = top_values.gather(1, (top_k - 1).clamp(min=0)[:, None])
    threshold = threshold.masked_fill((top_k == 0)[:, None], -torch.inf)
    return logits.masked_fill(logits < threshold, -torch.inf)


def _keep_top_p(logits: Tensor, top_p: Tensor) -> Tensor:
    """Keep the most likely tokens up to the one with which their probability reaches ``top_p``."""
    log_total = logits.logsumexp(dim=-1, keepdim=True)
    num_candidates = min(_TOP_P_CANDIDATES, logits.shape[-1])
    while True:
        values = torch.topk(logits, num_candidates, dim=-1).values
        cumulative = (values - log_total).exp().cumsum(dim=-1)
        num_below = (cumulative < top_p[:, None]).sum(dim=-1, keepdim=True)
        if num_candidates == logits.shape[-1] or bool(((num_below < num_candidates) | (top_p >= 1)[:, None]).all()):
            break
        num_candidates = logits.shape[-1]
    threshold = values.gather(1, num_below.clamp(max=num_candidates - 1))
    threshold = threshold.masked_fill((top_p >= 1)[:, None], -torch.inf)
    return logits.masked_fill(logits < threshold, -torch.inf)


def gather_logprobs(logits: Tensor, token_ids: Tensor, num_logprobs: list[int | None]) -> list[TokenLogprobs | None]:
    """Return the log-probabilities of each row's token and of its most likely tokens.

    Args:
        logits: ``[num_rows, vocab_size]`` float32.
        token_ids: ``[num_rows]`` int64, the tokens sampled.
    """
    wanted = [row for row, count in enumerate(num_logprobs) if count is not None]
    rows = torch.tensor(wanted, device=logits.device)
    logprobs = logits[rows].log_softmax(dim=-1)
    sampled = token_ids[rows, None]
    sampled_logprobs = logprobs.gather(1, sampled)
    ranks = (logprobs > sampled_logprobs).sum(dim=-1) + 1
    max_count = min(max((count or 0 for count in num_logprobs), default=0), logits.shape[-1])
    top = logprobs.topk(max_count, dim=-1)

    ids = torch.cat([sampled, top.indices], dim=1).tolist()
    values = torch.cat([sampled_logprobs, top.values], dim=1).tolist()
    result: list[TokenLogprobs | None] = [None] * len(num_logprobs)
    for row, row_ids, row_values, rank in zip(wanted, ids, values, ranks.tolist(), strict=True):
        keep = 1 + (num_logprobs[row] or 0)
        result[row] = TokenLogprobs(row_ids[:keep], row_values[:keep], rank)
    return result


def uniform_numbers(seeds: Tensor, positions: Tensor) -> Tensor:
    """Return uniform numbers in [0, 1), one for each (seed, position), by counter: no state, no order.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) on a mix of both, in wrapping int64 arithmetic.

    Args:
        seeds, positions: ``[n]`` int64.

    Returns:
        ``[n]`` float64.
    """
    # One step ahead, as SplitMix64 itself: 0 mixes to 0, and the number of seed 0 at position 0 must not be exactly 0.
    state = _mix64(seeds) + (positions + 1) * _signed(0x9E3779B97F4A7C15)
    return _shift_right(_mix64(state), 11).to(torch.float64) * 2.0**-53


def _mix64(value: Tensor) -> Tensor:
    value = (value ^ _shift_right(value, 30)) * _signed(0xBF58476D1CE4E5B9)
    value = (value ^ _shift_right(value, 27)) * _signed(0x94D049BB133111EB)
    return value ^ _shift_right(value, 31)


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Shift right as if the int64 were unsigned."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
