"""Paged attention against the definition, written as loops in float64, on caches full of NaN."""

from __future__ import annotations

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from octavo.kernels import reference
from tests.kernels.paged_batches import Batch, attend_by_definition, make_batch

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
    soft_cap=st.none() | st.sampled_from([0.5, 30.0]),
    with_sinks=st.booleans(),
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
    soft_cap: float | None,
    with_sinks: bool,
    seed: int,
) -> None:
    batch = make_batch(lengths, block_size=block_size, num_kv_heads=num_kv_heads, group=group, seed=seed)
    sinks = torch.linspace(-2, 3, num_kv_heads * group) if with_sinks else None
    module = importlib.import_module("octavo.kernels.reference.paged_attention")
    with pytest.MonkeyPatch.context() as patch:
        # Small pieces, so that small inputs take every path.
        patch.setattr(module, "_MAX_QUERIES", max_queries)
        patch.setattr(module, "_MAX_GATHERED_ELEMENTS", {"cpu": max_gathered})
        attended = batch.attend(sliding_window, reference.paged_attention, soft_cap=soft_cap, sinks=sinks)
    expected = attend_by_definition(batch, sliding_window, soft_cap, sinks)
    torch.testing.assert_close(attended.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("query_dtype", [torch.float32, torch.bfloat16])
def test_int8_numbers_are_multiplied_with_the_scale_of_their_token_and_head(query_dtype: torch.dtype) -> None:
    batch = make_batch([(1, 40), (1, 3), (17, 30)], head_dim=16, dtype=query_dtype, cache_dtype=torch.int8)
    attended = batch.attend(attention=reference.paged_attention)
    tolerance = 1e-5 if query_dtype is torch.float32 else 2e-2
    torch.testing.assert_close(attended.double(), attend_by_definition(batch), atol=tolerance, rtol=tolerance)


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
