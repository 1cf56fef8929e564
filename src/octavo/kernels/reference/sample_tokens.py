"""One token a row: temperature, filters, and a draw by inversion at a counter-based uniform number."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.sampling_rows import SamplingRows

_TOP_P_CANDIDATES = 1024


def sample_tokens(logits: Tensor, rows: SamplingRows) -> Tensor:
    """Choose one token for each row.

    Each row is treated by its own parameters alone, and its randomness depends on its seed and position alone. Filters
    are thresholds on the logits, in the order min-p, top-k, top-p, so equal logits are kept or dropped together. The
    most likely token is the first of equal ones. A NaN is never chosen; where no logit is above -infinity, token 0 is.

    Args:
        logits: ``[num_rows, vocab_size]`` float32.

    Returns:
        ``[num_rows]`` int64.
    """
    finite = torch.finfo(logits.dtype)
    logits = torch.nan_to_num(logits, nan=-torch.inf, posinf=finite.max, neginf=-torch.inf)
    most_likely = logits.argmax(dim=-1)
    if rows.all_greedy:
        return most_likely
    greatest = logits.gather(1, most_likely[:, None]).clamp_(min=finite.min)
    is_greedy = rows.temperature == 0
    scaled = (logits - greatest) / rows.temperature.masked_fill(is_greedy, 1.0)[:, None]
    return torch.where(is_greedy, most_likely, _draw(_filter(scaled, rows), rows))


def _filter(logits: Tensor, rows: SamplingRows) -> Tensor:
    """Set logits that the filters leave out to -infinity; the greatest of a row is 0."""
    if rows.any_min_p:
        logits = logits.masked_fill(logits < rows.min_p.log()[:, None], -torch.inf)
    if rows.max_top_k:
        logits = _keep_top_k(logits, rows)
    if rows.any_top_p:
        logits = _keep_top_p(logits, rows.top_p)
    return logits


def _draw(logits: Tensor, rows: SamplingRows) -> Tensor:
    """Draw from each row's distribution by inverting its cumulative distribution."""
    cumulative = logits.exp().to(torch.float64).cumsum(dim=-1)
    uniform = uniform_numbers(rows.seeds, rows.positions)
    total = cumulative[:, -1:].contiguous()
    token_ids = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    last = torch.searchsorted(cumulative, total)  # where rounding goes beyond all, the last token with any weight
    return torch.minimum(token_ids, last).squeeze(-1).clamp_(max=logits.shape[-1] - 1)


def _keep_top_k(logits: Tensor, rows: SamplingRows) -> Tensor:
    vocab_size = logits.shape[-1]
    top_k = rows.top_k.clamp(max=vocab_size)
    top_values = torch.topk(logits, min(rows.max_top_k, vocab_size), dim=-1).values
    threshold = top_values.gather(1, (top_k - 1).clamp(min=0, max=top_values.shape[-1] - 1)[:, None])
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
