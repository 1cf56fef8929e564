"""Paged attention against the definition, written as loops in float64, on caches full of NaN."""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from octavo import kernels
from octavo.kernels import reference

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

    def attend(self, sliding_window: int | None = None, attention: Attention = kernels.paged_attention) -> Tensor:
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
        )


def make_batch(
    lengths: list[tuple[int, int]],
    *,
    block_size: int = 4,
    num_kv_heads: int = 2,
    group: int = 2,
    head_dim: int = 4,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Batch:
    """Make a batch of (query length, sequence length) pairs; every slot that no sequence owns is NaN."""
    generator = torch.Generator().manual_seed(seed)
    seq_lens = [length for _, length in lengths]
    needs = [-(-length // block_size) for length in seq_lens]
    num_blocks = sum(needs) + 2
    free = list(range(1, num_blocks))
    random.Random(seed).shuffle(free)
    caches = [torch.full((num_blocks, block_size, num_kv_heads, head_dim), torch.nan, dtype=dtype) for _ in range(2)]
    tables = torch.zeros(len(lengths), max(needs) + 1, dtype=torch.int32)
    sequences: list[list[Tensor]] = [[], []]
    for row, (length, need) in enumerate(zip(seq_lens, needs, strict=True)):
        blocks = [free.pop() for _ in range(need)]
        tables[row, :need] = torch.tensor(blocks)
        for cache, kept in zip(caches, sequences, strict=True):
            written = torch.randn(length, num_kv_heads, head_dim, generator=generator).to(dtype)
            for position in range(length):
                cache[blocks[position // block_size], position % block_size] = written[position]
            kept.append(written)
    num_tokens = sum(num_queries for num_queries, _ in lengths)
    query = torch.randn(num_tokens, num_kv_heads * group, head_dim, generator=generator).to(dtype)
    return Batch(query, *sequences, *caches, tables, [queries for queries, _ in lengths], seq_lens)


def attend_by_definition(batch: Batch, sliding_window: int | None) -> Tensor:
    num_heads, head_dim = batch.query.shape[1:]
    group = num_heads // batch.key_cache.shape[2]
    expected = torch.zeros(batch.query.shape, dtype=torch.float64)
    token = 0
    for keys, values, num_queries, length in zip(
        batch.keys, batch.values, batch.query_lens, batch.seq_lens, strict=True
    ):
        for position in range(length - num_queries, length):
            first = 0 if sliding_window is None else max(0, position - sliding_window + 1)
            for head in range(num_heads):
                seen = slice(first, position + 1)
                scores = keys[seen, head // group].double() @ batch.query[token, head].double() / math.sqrt(head_dim)
                expected[token, head] = torch.softmax(scores, 0) @ values[seen, head // group].double()
            token += 1
    return expected


lengths_of_sequences = st.lists(
    st.integers(1, 14).flatmap(
        lambda length: st.tuples(st.one_of(st.just(1), st.integers(1, length)), st.just(length))
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(
    lengths=lengths_of_sequences,
    block_size=st.integers(1, 5),
    num_kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    sliding_window=st.none() | st.integers(1, 15),
    max_queries=st.sampled_from([1, 3, 512]),
    max_gathered=st.sampled_from([1, 64, 2**22]),
    seed=st.integers(0, 2**31),
)
def test_attention_equals_its_definition(
    lengths: list[tuple[int, int]],
    block_size: int,
    num_kv_heads: int,
    group: int,
    sliding_window: int | None,
    max_queries: int,
    max_gathered: int,
    seed: int,
) -> None:
    batch = make_batch(lengths, block_size=block_size, num_kv_heads=num_kv_heads, group=group, seed=seed)
    module = importlib.import_module("octavo.kernels.reference.paged_attention")
    with pytest.MonkeyPatch.context() as patch:
        # Small pieces, so that small inputs take every path.
        patch.setattr(module, "_MAX_QUERIES", max_queries)
        patch.setattr(module, "_MAX_GATHERED_ELEMENTS", {"cpu": max_gathered})
        attended = batch.attend(sliding_window)
    torch.testing.assert_close(attended.double(), attend_by_definition(batch, sliding_window), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_the_definition(dtype: torch.dtype) -> None:
    batch = make_batch([(1, 40), (1, 3), (17, 30), (1, 39)], head_dim=16, dtype=dtype)
    attended = batch.attend()
    assert attended.dtype == dtype
    torch.testing.assert_close(attended.double(), attend_by_definition(batch, None), atol=2e-2, rtol=2e-2)


def test_prompt_longer_than_a_piece_of_queries_equals_the_definition() -> None:
    batch = make_batch([(700, 710)], num_kv_heads=1, group=1)
    torch.testing.assert_close(batch.attend().double(), attend_by_definition(batch, None), atol=1e-5, rtol=1e-5)


def test_result_of_a_sequence_does_not_depend_on_its_neighbours() -> None:
    lengths = [(1, 9), (1, 300), (5, 12), (1, 8), (1, 1)]
    together = make_batch(lengths)
    attended = together.attend()
    token = 0
    for row, (num_queries, length) in enumerate(lengths):
        alone = Batch(
            together.query[token : token + num_queries],
            [],
            [],
            together.key_cache,
            together.value_cache,
            together.block_tables[row : row + 1],
            [num_queries],
            [length],
        )
        torch.testing.assert_close(attended[token : token + num_queries], alone.attend(), atol=1e-6, rtol=1e-6)
        token += num_queries


@pytest.mark.parametrize("sliding_window", [None, 5])
def test_nothing_waits_for_the_device(sliding_window: int | None) -> None:
    batch = make_batch([(1, 9), (6, 12), (1, 30), (1, 2)])
    # Fake tensors have no data: any read of a value on the host would raise. (Native kernels are on the host.)
    with FakeTensorMode() as mode:
        fake = Batch(
            *(mode.from_tensor(batch.query), [], [], mode.from_tensor(batch.key_cache)),
            *(mode.from_tensor(batch.value_cache), mode.from_tensor(batch.block_tables)),
            *(batch.query_lens, batch.seq_lens),
        )
        assert fake.attend(sliding_window, reference.paged_attention).shape == batch.query.shape
