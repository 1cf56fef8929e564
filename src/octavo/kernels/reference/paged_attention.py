"""Attention over a paged KV cache (arXiv:2309.06180): causal, grouped-query, optionally with a sliding window.

Nothing here waits for the device: every size comes from the lengths on the host. Slots that no token of a sequence has
written hold anything, NaN included, so keys and values that must not be seen are removed, not only masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# Elements of keys gathered at a time for decoding: a CPU is fastest while they stay in its cache, a GPU with much to do
# at once; either way the copy of a large cache is bounded.
_MAX_GATHERED_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}
# Queries of one sequence at a time: bounds the mask, and skips the keys that no query of the piece may see.
_MAX_QUERIES = 512


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

    Returns:
        ``[num_tokens, num_heads, head_dim]`` in the type of ``query``; the softmax is taken in float32.
    """
    output = torch.empty_like(query)
    cache = (key_cache, value_cache)
    token = 0
    for first, last in _runs(query_lens_host, seq_lens_host, key_cache):
        lengths = seq_lens_host[first:last]
        num_queries = query_lens_host[first]
        end = token + num_queries * (last - first)
        if num_queries == 1:
            output[token:end] = _decode(
                query[token:end], cache, block_tables[first:last], seq_lens[first:last], lengths, scale, sliding_window
            )
        else:
            _prefill(output[token:end], query[token:end], cache, block_tables[first], lengths[0], scale, sliding_window)
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
    cache: tuple[Tensor, Tensor],
    block_tables: Tensor,
    seq_lens: Tensor,
    lengths: Sequence[int],
    scale: float,
    sliding_window: int | None,
) -> Tensor:
    """Attend with one query a sequence: ``[num_seqs, num_heads, head_dim]``."""
    num_seqs, num_heads, head_dim = query.shape
    num_kv_heads = cache[0].shape[2]
    keys, values = (_gather(part, block_tables, max(lengths), query.dtype) for part in cache)
    positions = torch.arange(keys.shape[1], device=query.device)
    is_written = positions < seq_lens.unsqueeze(1)
    # Below the shortest length everything is written: only the tail needs the pass over the memory.
    tail = slice(min(lengths), None)
    hidden = ~is_written[:, tail, None, None]
    keys[:, tail].masked_fill_(hidden, 0)
    values[:, tail].masked_fill_(hidden, 0)
    visible = is_written
    if sliding_window is not None:
        visible = visible & (positions >= seq_lens.unsqueeze(1) - sliding_window)
    # The heads that share a key head are the rows of one matrix, so that keys are not repeated.
    grouped = query.reshape(num_seqs, num_kv_heads, num_heads // num_kv_heads, head_dim)
    attended = F.scaled_dot_product_attention(
        grouped, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=visible[:, None, None], scale=scale
    )
    return attended.reshape(num_seqs, num_heads, head_dim)


def _prefill(
    output: Tensor,
    query: Tensor,
    cache: tuple[Tensor, Tensor],
    block_table: Tensor,
    length: int,
    scale: float,
    sliding_window: int | None,
) -> None:
    """Attend with all queries of one sequence, ``[num_queries, num_heads, head_dim]``, into ``output``."""
    num_queries, num_heads, head_dim = query.shape
    num_kv_heads = cache[0].shape[2]
    group = num_heads // num_kv_heads
    # [num_kv_heads, group, length, head_dim]: a key head is seen by its whole group without being copied.
    keys, values = (
        _gather(part, block_table.unsqueeze(0), length, query.dtype)[0, :length]
        .transpose(0, 1)
        .unsqueeze(1)
        .expand(-1, group, -1, -1)
        for part in cache
    )
    positions = torch.arange(length, device=query.device)
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
        attended = F.scaled_dot_product_attention(
            grouped,
            keys[:, :, begin:end],
            values[:, :, begin:end],
            attn_mask=visible,
            is_causal=is_square,
            scale=scale,
        )
        output[start:stop] = attended.permute(2, 0, 1, 3).reshape(stop - start, num_heads, head_dim)


def _gather(cache: Tensor, block_tables: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Copy the first blocks of each sequence, as many as ``length`` tokens need, side by side.

    Returns:
        ``[num_seqs, num_blocks * block_size, num_kv_heads, head_dim]``.
    """
    block_size, num_kv_heads, head_dim = cache.shape[1:]
    num_blocks = -(-length // block_size)
    tables = block_tables[:, :num_blocks]
    blocks = cache.view(cache.shape[0], -1).index_select(0, tables.reshape(-1)).to(dtype)
    return blocks.view(tables.shape[0], num_blocks * block_size, num_kv_heads, head_dim)
