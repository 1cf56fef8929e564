"""Batches of sequences in a paged KV cache that is poisoned where no sequence owns it; attention by its definition."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from octavo import kernels

Attention = Callable[..., Tensor]


@dataclass
class Batch:
    """Sequences with their keys and values, both laid out in pages and as they were."""

    query: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    key_cache: Tensor
    value_cache: Tensor
    block_tables: Tensor
    query_lens: list[int]
    seq_lens: list[int]
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    def attend(
        self, sliding_window: int | None = None, attention: Attention = kernels.paged_attention, **options: Any
    ) -> Tensor:
        if self.key_scales is not None:
            options |= {"key_scales": self.key_scales, "value_scales": self.value_scales}
        return attention(
            self.query,
            self.key_cache,
            self.value_cache,
            self.block_tables,
            torch.tensor([0, *self.query_lens]).cumsum(0).int(),
            torch.tensor(self.seq_lens, dtype=torch.int32),
            self.query_lens,
            self.seq_lens,
            self.query.shape[-1] ** -0.5,
            sliding_window,
            **options,
        )

    def choose(self, parts: list[tuple[int, int, int]]) -> Batch:
        """Return a batch of (row, first query, end) pieces of sequences, as if later tokens were not there yet."""
        starts = torch.tensor([0, *self.query_lens]).cumsum(0).tolist()
        rows = [row for row, _, _ in parts]
        return replace(
            self,
            query=torch.cat([self.query[starts[row] + first : starts[row] + end] for row, first, end in parts]),
            keys=[],
            values=[],
            block_tables=self.block_tables[rows],
            query_lens=[end - first for _, first, end in parts],
            seq_lens=[self.seq_lens[row] - self.query_lens[row] + end for row, _, end in parts],
        )


def make_batch(
    lengths: list[tuple[int, int]],
    *,
    block_size: int = 4,
    num_kv_heads: int = 2,
    group: int = 2,
    head_dim: int = 4,
    dtype: torch.dtype = torch.float32,
    cache_dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Batch:
    """Make a batch of (query length, sequence length) pairs.

    Every slot that no sequence owns is NaN; in a cache of int8 its scales are.
    """
    generator = torch.Generator().manual_seed(seed)
    cache_dtype = dtype if cache_dtype is None else cache_dtype
    is_int8 = cache_dtype is torch.int8
    seq_lens = [length for _, length in lengths]
    needs = [-(-length // block_size) for length in seq_lens]
    num_blocks = sum(needs) + 2
    free = list(range(1, num_blocks))
    random.Random(seed).shuffle(free)
    poison = 101 if is_int8 else torch.nan
    shape = (num_blocks, block_size, num_kv_heads, head_dim)
    caches = [torch.full(shape, poison, dtype=cache_dtype) for _ in range(2)]
    scales = [torch.full(shape[:3], torch.nan) for _ in range(2)]
    tables = torch.zeros(len(lengths), max(needs) + 1, dtype=torch.int32)
    sequences: list[list[Tensor]] = [[], []]
    for row, (length, need) in enumerate(zip(seq_lens, needs, strict=True)):
        blocks = [free.pop() for _ in range(need)]
        tables[row, :need] = torch.tensor(blocks)
        slots = [blocks[position // block_size] * block_size + position % block_size for position in range(length)]
        for cache, scale, kept in zip(caches, scales, sequences, strict=True):
            written = torch.randn(length, num_kv_heads, head_dim, generator=generator)
            if is_int8:
                factors = written.abs().amax(-1) / 127
                scale.view(-1, num_kv_heads)[slots] = factors
                written = (written / factors.unsqueeze(-1)).round()
                cache.view(-1, num_kv_heads, head_dim)[slots] = written.to(torch.int8)
                kept.append(written.double() * factors.unsqueeze(-1).double())
            else:
                kept.append(written.to(cache_dtype))
                cache.view(-1, num_kv_heads, head_dim)[slots] = kept[-1]
    num_tokens = sum(num_queries for num_queries, _ in lengths)
    query = torch.randn(num_tokens, num_kv_heads * group, head_dim, generator=generator).to(dtype)
    batch = Batch(query, *sequences, *caches, tables, [queries for queries, _ in lengths], seq_lens)
    return replace(batch, key_scales=scales[0], value_scales=scales[1]) if is_int8 else batch


def attend_by_definition(
    batch: Batch, sliding_window: int | None = None, soft_cap: float | None = None, sinks: Tensor | None = None
) -> Tensor:
    """Attend in float64: for each sequence, all scores, those that are not seen hidden, and a softmax."""
    num_heads, head_dim = batch.query.shape[1:]
    group = num_heads // batch.key_cache.shape[2]
    expected = []
    queries = batch.query.double().split(batch.query_lens)
    for query, keys, values, length in zip(queries, batch.keys, batch.values, batch.seq_lens, strict=True):
        wide_keys, wide_values = (part.double().repeat_interleave(group, dim=1) for part in (keys, values))
        scores = torch.einsum("qhd,khd->hqk", query, wide_keys) * head_dim**-0.5
        if soft_cap is not None:
            scores = soft_cap * torch.tanh(scores / soft_cap)
        distance = torch.arange(length - len(query), length).unsqueeze(1) - torch.arange(length)
        is_seen = (distance >= 0) & (distance < (length if sliding_window is None else sliding_window))
        scores = scores.masked_fill(~is_seen, -torch.inf)
        if sinks is not None:
            scores = torch.cat((scores, sinks.double().view(-1, 1, 1).expand(-1, len(query), 1)), dim=-1)
        weights = scores.softmax(-1)[..., :length]
        expected.append(torch.einsum("hqk,khd->qhd", weights, wide_values))
    return torch.cat(expected)
