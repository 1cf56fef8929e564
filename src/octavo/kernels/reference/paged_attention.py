"""Attention over a paged KV cache (arXiv:2309.06180): causal, grouped-query, optionally with a sliding window.

Nothing here waits for the device: every size comes from the lengths on the host. Slots that no token of a sequence has
written hold anything, NaN included, so keys and values that must not be seen are removed, not only masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

# Elements of keys gathered at a time for decoding: a CPU is fastest while they stay in its cache, a GPU with much to do
# at once; either way the copy of a large cache is bounded.
_MAX_GATHERED_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}
# Queries of one sequence at a time: bounds the mask, and skips the keys that no query of the piece may see.
_MAX_QUERIES = 512

# Keys and values, each with its scales.
_Cache: TypeAlias = tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, slots=True)
class _Scores:
    """What is done with dot products of queries and keys; the arguments of :func:`paged_attention`."""

    scale: float
    sliding_window: int | None
    soft_cap: float | None
    sinks: Tensor | None


def paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    query_starts: Tensor,
    seq_lens: Tensor,
    query_lens_host: Sequence[int],
    seq_lens_host: Sequence[int],
    scale: float,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    *,
    rounded: bool = False,
) -> Tensor:
    """Let each token attend to the tokens of its own sequence up to its own position.

    Query ``i`` of a sequence of length ``n`` with ``q`` queries is at position ``n - q + i``. With a sliding window it
    sees the keys at positions above its own minus the window.

    Args:
        query: ``[num_tokens, num_heads, head_dim]``, the sequences laid end to end.
        key_cache, value_cache: ``[num_blocks, block_size, num_kv_heads, head_dim]``, contiguous; the keys and values of
            this step's tokens are in it already. Other types than the query's are converted to it.
        block_tables: ``[num_seqs, max_blocks]`` int32, block ids of each sequence.
        query_starts: ``[num_seqs + 1]`` int32, first token of each sequence; not read here, since the lengths on the
            host say the same without a wait.
        seq_lens: ``[num_seqs]`` int32, at least 1 each.
        query_lens_host, seq_lens_host: number of queries and length of each sequence, on the host.
        scale: factor of the dot products.
        soft_cap: bounds scores to ``soft_cap * tanh(score / soft_cap)`` (Gemma 2); None leaves them.
        sinks: ``[num_heads]`` float32, a score of each head that only adds to the sum of the weights (GPT-OSS).
        key_scales, value_scales: ``[num_blocks, block_size, num_kv_heads]`` float32, factors of the whole numbers in
            caches of int8; None for other types.
        rounded: whether queries and weights may be rounded to what is fastest to multiply with the cache. Nothing is
            rounded here.

    Returns:
        ``[num_tokens, num_heads, head_dim]`` in the type of ``query``; the softmax is taken in float32.
    """
    output = torch.empty_like(query)
    cache = ((key_cache, key_scales), (value_cache, value_scales))
    scores = _Scores(scale, sliding_window, soft_cap, sinks)
    token = 0
    for first, last in _runs(query_lens_host, seq_lens_host, key_cache):
        lengths = seq_lens_host[first:last]
        num_queries = query_lens_host[first]
        end = token + num_queries * (last - first)
        if num_queries == 1:
            output[token:end] = _decode(
                query[token:end], cache, block_tables[first:last], seq_lens[first:last], lengths, scores
            )
        else:
            _prefill(output[token:end], query[token:end], cache, block_tables[first], lengths[0], scores)
        token = end
    return output


def _runs(query_lens: Sequence[int], seq_lens: Sequence[int], key_cache: Tensor) -> Iterator[tuple[int, int]]:
    """Cut the batch into neighbouring sequences that are computed together.

    Sequences with one query form runs in which padding to the longest at most doubles the work; any other sequence
    stands alone.
    """
    budget = _MAX_GATHERED_ELEMENTS[key_cache.device.type] // (key_cache.shape[2] * key_cache.shape[3])
    first = longest = total = 0
    for index, (num_queries, length) in enumerate(zip(query_lens, seq_lens, strict=True)):
        padded = (index - first + 1) * max(longest, length)
        if index > first and (num_queries != 1 or query_lens[first] != 1 or padded > min(budget, 2 * (total + length))):
            yield first, index
            first, longest, total = index, 0, 0
        longest, total = max(longest, length), total + length
    if query_lens:
        yield first, len(query_lens)


def _decode(
    query: Tensor,
    cache: _Cache,
    block_tables: Tensor,
    seq_lens: Tensor,
    lengths: Sequence[int],
    scores: _Scores,
) -> Tensor:
    """Attend with one query a sequence: ``[num_seqs, num_heads, head_dim]``."""
    num_seqs, num_heads, head_dim = query.shape
    num_kv_heads = cache[0][0].shape[2]
    keys, values = (_gather(*part, block_tables, max(lengths), query.dtype) for part in cache)
    positions = torch.arange(keys.shape[1], device=query.device)
    is_written = positions < seq_lens.unsqueeze(1)
    # Below the shortest length everything is written: only the tail needs the pass over the memory.
    tail = slice(min(lengths), None)
    hidden = ~is_written[:, tail, None, None]
    keys[:, tail].masked_fill_(hidden, 0)
    values[:, tail].masked_fill_(hidden, 0)
    visible = is_written
    if scores.sliding_window is not None:
        visible = visible & (positions >= seq_lens.unsqueeze(1) - scores.sliding_window)
    # The heads that share a key head are the rows of one matrix, so that keys are not repeated.
    grouped = query.reshape(num_seqs, num_kv_heads, num_heads // num_kv_heads, head_dim)
    sinks = None if scores.sinks is None else scores.sinks.view(num_kv_heads, -1, 1)
    attended = _attend(grouped, keys.transpose(1, 2), values.transpose(1, 2), visible[:, None, None], scores, sinks)
    return attended.reshape(num_seqs, num_heads, head_dim)


def _prefill(
    output: Tensor,
    query: Tensor,
    cache: _Cache,
    block_table: Tensor,
    length: int,
    scores: _Scores,
) -> None:
    """Attend with all queries of one sequence, ``[num_queries, num_heads, head_dim]``, into ``output``."""
    num_queries, num_heads, head_dim = query.shape
    num_kv_heads = cache[0][0].shape[2]
    group = num_heads // num_kv_heads
    # [num_kv_heads, group, length, head_dim]: a key head is seen by its whole group without being copied.
    keys, values = (
        _gather(*part, block_table.unsqueeze(0), length, query.dtype)[0, :length]
        .transpose(0, 1)
        .unsqueeze(1)
        .expand(-1, group, -1, -1)
        for part in cache
    )
    positions = torch.arange(length, device=query.device)
    sliding_window = scores.sliding_window
    sinks = None if scores.sinks is None else scores.sinks.view(num_kv_heads, group, 1, 1)
    for start in range(0, num_queries, _MAX_QUERIES):
        stop = min(start + _MAX_QUERIES, num_queries)
        first_position, end = length - num_queries + start, length - num_queries + stop
        begin = 0 if sliding_window is None else max(0, first_position - sliding_window + 1)
        visible = None
        is_square = first_position == 0 and (sliding_window is None or end <= sliding_window)
        if not is_square:  # else the causal mask alone says it, and none has to be made
            own = positions[first_position:end, None]
            visible = positions[begin:end] <= own
            if sliding_window is not None:
                visible &= positions[begin:end] > own - sliding_window
        grouped = query[start:stop].view(stop - start, num_kv_heads, group, head_dim).permute(1, 2, 0, 3)
        attended = _attend(grouped, keys[:, :, begin:end], values[:, :, begin:end], visible, scores, sinks)
        output[start:stop] = attended.permute(2, 0, 1, 3).reshape(stop - start, num_heads, head_dim)


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, scores: _Scores, sinks: Tensor | None
) -> Tensor:
    """Attend with ``[..., num_queries, head_dim]`` to ``[..., num_keys, head_dim]``.

    Args:
        visible: ``[..., num_queries, num_keys]``; None if as many queries as keys see all keys up to their own.
        sinks: broadcastable to ``[..., num_queries, 1]``.
    """
    if scores.soft_cap is None and sinks is None:
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=visible, is_causal=visible is None, scale=scores.scale
        )
    if visible is None:
        visible = torch.ones(query.shape[-2], keys.shape[-2], dtype=torch.bool, device=query.device).tril()
    products = (query @ keys.transpose(-1, -2)).to(torch.float32) * scores.scale
    if scores.soft_cap is not None:
        products = scores.soft_cap * torch.tanh(products / scores.soft_cap)
    products = products.masked_fill(~visible, -torch.inf)
    if sinks is not None:
        products = torch.cat((products, sinks.expand(*products.shape[:-1], 1)), dim=-1)
    weights = products.softmax(-1)[..., : keys.shape[-2]]
    return weights.to(values.dtype) @ values


def _gather(cache: Tensor, scales: Tensor | None, block_tables: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Copy the first blocks of each sequence, as many as ``length`` tokens need, side by side.

    Returns:
        ``[num_seqs, num_blocks * block_size, num_kv_heads, head_dim]``.
    """
    block_size, num_kv_heads, head_dim = cache.shape[1:]
    num_blocks = -(-length // block_size)
    tables = block_tables[:, :num_blocks]
    blocks = cache.view(cache.shape[0], -1).index_select(0, tables.reshape(-1)).to(dtype)
    gathered = blocks.view(tables.shape[0], num_blocks * block_size, num_kv_heads, head_dim)
    if scales is not None:
        factors = scales.view(cache.shape[0], -1).index_select(0, tables.reshape(-1))
        gathered *= factors.view(*gathered.shape[:-1], 1).to(dtype)
    return gathered
