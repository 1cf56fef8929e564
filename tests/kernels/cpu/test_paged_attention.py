"""Native attention against its definition in float64, and bit for bit against itself, for every instruction set."""

from __future__ import annotations

import itertools
from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavo.kernels import reference
from octavo.kernels.cpu import paged_attention
from tests.kernels.paged_batches import Batch, attend_by_definition, make_batch

HALF_ULP = 2.0**-24
HALF_ULP_OF_BFLOAT16 = 2.0**-9
CACHE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8)
# Of the tiles in which the kernel goes over the keys (native/attention_order.h): edges are where mistakes would be.
TILE = 144
# The instruction set stays the same for all examples of a test.
properties = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
seeds = st.integers(0, 2**31)
head_dims = st.sampled_from([16, 20, 32, 64, 80, 100, 128, 256])
# Of the cache, and whether queries and weights may be rounded, which some types gain from.
kinds = st.sampled_from(
    [(dtype, False) for dtype in CACHE_DTYPES] + [(torch.bfloat16, True), (torch.int8, True), (torch.float32, True)]
)
windows = st.none() | st.integers(1, 2 * TILE)
total_lengths = st.integers(1, 20) | st.sampled_from([TILE - 1, TILE, TILE + 1, 2 * TILE + 5])
lengths_of_sequences = st.lists(
    total_lengths.flatmap(
        lambda length: st.tuples(st.just(1) | st.integers(1, min(length, 12)) | st.just(length), st.just(length))
    ),
    min_size=1,
    max_size=3,
).filter(lambda lengths: sum(num_queries for num_queries, _ in lengths) <= 2 * TILE + 12)


def error_bound(batch: Batch, soft_cap: float | None, *, rounded: bool = False) -> float:
    """Return how far sums in float32, in any order, and rounding may take a result from the exact one."""
    head_dim, longest = batch.query.shape[-1], max(batch.seq_lens)
    largest_key = max(keys.double().abs().norm(dim=-1).max().item() for keys in batch.keys)
    largest_value = max(values.double().abs().max().item() for values in batch.values)
    largest_score = batch.query.double().norm(dim=-1).max().item() * largest_key * head_dim**-0.5
    of_score = HALF_ULP * (head_dim + 6) * largest_score
    of_weight = HALF_ULP * (longest + 40)
    if rounded and batch.key_cache.dtype is torch.bfloat16:
        of_score += HALF_ULP_OF_BFLOAT16 * largest_score
        of_weight += HALF_ULP_OF_BFLOAT16
    if soft_cap is not None:
        of_score += 8 * HALF_ULP * soft_cap
    return largest_value * min(2.0, 2 * of_score + of_weight)


@properties
@given(
    lengths=lengths_of_sequences,
    block_size=st.sampled_from([1, 3, 16, 64]),
    num_kv_heads=st.integers(1, 3),
    group=st.integers(1, 8),
    head_dim=head_dims,
    kind=kinds,
    sliding_window=windows,
    soft_cap=st.none() | st.sampled_from([0.5, 30.0]),
    with_sinks=st.booleans(),
    seed=seeds,
)
def test_attention_is_its_definition_up_to_rounding_of_sums(
    isa: str,
    lengths: list[tuple[int, int]],
    block_size: int,
    num_kv_heads: int,
    group: int,
    head_dim: int,
    kind: tuple[torch.dtype, bool],
    sliding_window: int | None,
    soft_cap: float | None,
    with_sinks: bool,
    seed: int,
) -> None:
    cache_dtype, rounded = kind
    num_heads = num_kv_heads * group
    batch = make_batch(
        lengths,
        block_size=block_size,
        num_kv_heads=num_kv_heads,
        group=group,
        head_dim=head_dim,
        cache_dtype=cache_dtype,
        seed=seed,
    )
    sinks = torch.linspace(-2, 3, num_heads) if with_sinks else None
    attended = batch.attend(sliding_window, paged_attention, soft_cap=soft_cap, sinks=sinks, rounded=rounded)
    error = (attended.double() - attend_by_definition(batch, sliding_window, soft_cap, sinks)).abs().max().item()
    assert error <= error_bound(batch, soft_cap, rounded=rounded)


@pytest.mark.parametrize("cache_dtype", CACHE_DTYPES)
def test_attention_agrees_with_the_reference_in_torch(isa: str, cache_dtype: torch.dtype) -> None:
    batch = make_batch([(1, 500), (300, 310), (2, 2)], block_size=16, group=3, head_dim=64, cache_dtype=cache_dtype)
    sinks = torch.linspace(-1, 1, 6)
    for options in ({}, {"soft_cap": 2.0, "sinks": sinks}):
        for window in (None, 150):
            torch.testing.assert_close(
                batch.attend(window, paged_attention, **options),
                batch.attend(window, reference.paged_attention, **options),
                atol=2e-6,
                rtol=2e-5,
            )


@pytest.mark.parametrize("num_queries", [1, 40])
def test_rounded_queries_are_those_of_bfloat16_where_that_is_faster(isa: str, num_queries: int) -> None:
    # The scale of 64 dimensions is a power of two, so rounding before or after it is the same.
    batch = make_batch([(num_queries, 150)], block_size=16, head_dim=64, cache_dtype=torch.bfloat16)
    exact, rounded = (batch.attend(None, paged_attention, rounded=rounded) for rounded in (False, True))
    batch.query = batch.query.bfloat16().float()
    of_rounded_query = batch.attend(None, paged_attention, rounded=True)
    if isa in ("avx512_bf16", "amx"):
        assert torch.equal(rounded, of_rounded_query)
        assert not torch.equal(rounded, exact)
    else:
        assert torch.equal(rounded, exact)


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e3, 1e15])
def test_huge_and_tiny_numbers_stay_within_the_bound(isa: str, factor: float) -> None:
    batch = make_batch([(1, 150), (20, 150)], block_size=16, head_dim=64)
    batch.query *= factor
    batch.value_cache *= factor
    batch.values = [values * factor for values in batch.values]
    error = (batch.attend(attention=paged_attention).double() - attend_by_definition(batch)).abs().max().item()
    assert error <= error_bound(batch, None)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, list[int]]:
    """Draw the length of a prompt and where it is cut; many pieces are single tokens."""
    length = draw(st.integers(2, 30) | st.integers(TILE - 2, 2 * TILE + 2))
    points = draw(st.sets(st.integers(1, length - 1), max_size=6))
    singles = {point + 1 for point in points if draw(st.booleans())}
    return length, sorted({0, length} | points | (singles & set(range(1, length))))


@properties
@given(
    cut=cuts(),
    other=st.tuples(st.integers(1, 30), st.integers(1, 200)).map(lambda pair: (min(pair), max(pair))),
    cached=st.sampled_from([0, 1, TILE - 3, 200]),
    num_threads=st.integers(1, 3),
    block_size=st.sampled_from([1, 16, 64]),
    num_kv_heads=st.integers(1, 3),
    group=st.integers(1, 8),
    head_dim=head_dims,
    kind=kinds,
    sliding_window=windows,
    soft_cap=st.none() | st.just(20.0),
    with_sinks=st.booleans(),
    seed=seeds,
)
def test_a_token_is_the_same_bits_however_its_prompt_is_cut(
    isa: str,
    native: ModuleType,
    cut: tuple[int, list[int]],
    other: tuple[int, int],
    cached: int,
    num_threads: int,
    block_size: int,
    num_kv_heads: int,
    group: int,
    head_dim: int,
    kind: tuple[torch.dtype, bool],
    sliding_window: int | None,
    soft_cap: float | None,
    with_sinks: bool,
    seed: int,
) -> None:
    cache_dtype, rounded = kind
    length, points = cut
    batch = make_batch(
        [(length, cached + length), other],
        block_size=block_size,
        num_kv_heads=num_kv_heads,
        group=group,
        head_dim=head_dim,
        cache_dtype=cache_dtype,
        seed=seed,
    )
    sinks = torch.linspace(-2, 3, num_kv_heads * group) if with_sinks else None
    options = {"soft_cap": soft_cap, "sinks": sinks, "rounded": rounded}
    together = batch.attend(sliding_window, paged_attention, **options)
    native.set_num_threads(num_threads)
    try:
        for index, (first, end) in enumerate(itertools.pairwise(points)):
            with_neighbour = index % 2 == 0
            parts = [(0, first, end)] + [(1, 0, other[0])] * with_neighbour
            piece = batch.choose(parts).attend(sliding_window, paged_attention, **options)
            assert torch.equal(piece[: end - first], together[first:end])
            assert not with_neighbour or torch.equal(piece[end - first :], together[length:])
    finally:
        native.set_num_threads(2)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("cache_dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_each_token_alone_is_the_same_bits_as_in_the_prompt(
    isa: str, cache_dtype: torch.dtype, *, rounded: bool
) -> None:
    length = TILE + 20
    batch = make_batch([(length, length)], block_size=16, group=3, head_dim=64, cache_dtype=cache_dtype)

    def attend(parts: list[tuple[int, int, int]]) -> Tensor:
        return batch.choose(parts).attend(40, paged_attention, rounded=rounded)

    together = batch.attend(40, paged_attention, rounded=rounded)
    alone = [attend([(0, token, token + 1)]) for token in range(length)]
    assert torch.equal(torch.cat(alone), together)
    # All at once: as many sequences as tokens, each one token longer than the one before.
    assert torch.equal(attend([(0, token, token + 1) for token in range(length)]), together)


@pytest.mark.parametrize(("cache_dtype", "head_dim"), [(torch.float32, 20), (torch.bfloat16, 32)])
def test_not_a_number_spreads_to_what_sees_it_and_no_further(isa: str, cache_dtype: torch.dtype, head_dim: int) -> None:
    batch = make_batch([(60, 60)], block_size=16, head_dim=head_dim, cache_dtype=cache_dtype)

    def attend(batch: Batch) -> Tensor:
        return batch.attend(10, paged_attention, rounded=True)

    clean = attend(batch)
    slot = (batch.block_tables[0, 25 // 16], 25 % 16)
    batch.query[50, 3, 7] = torch.nan
    batch.key_cache[slot][0, 2] = torch.nan
    batch.value_cache[slot][1, 4] = torch.inf
    expected = clean.clone()
    expected[50, 3] = torch.nan
    expected[25:35, :2] = torch.nan
    expected[25:35, 2:, 4] = torch.inf
    torch.testing.assert_close(attend(batch), expected, rtol=0, atol=0, equal_nan=True)
    one_by_one = [attend(batch.choose([(0, token, token + 1)])) for token in range(60)]
    torch.testing.assert_close(torch.cat(one_by_one), expected, rtol=0, atol=0, equal_nan=True)


def test_a_scale_that_is_not_a_number_makes_its_head_not_a_number(isa: str) -> None:
    batch = make_batch([(20, 20)], head_dim=16, cache_dtype=torch.int8)
    assert batch.key_scales is not None
    assert batch.value_scales is not None
    expected = batch.attend(attention=paged_attention).clone()
    batch.key_scales[batch.block_tables[0, 3], 1, 0] = torch.nan
    batch.value_scales[batch.block_tables[0, 4], 2, 1] = torch.nan
    expected[13:, :2] = torch.nan
    expected[18:, 2:] = torch.nan
    attended = batch.attend(attention=paged_attention)
    torch.testing.assert_close(attended, expected, rtol=0, atol=0, equal_nan=True)


def test_a_sink_of_minus_infinity_is_none_and_a_large_one_takes_all(isa: str) -> None:
    batch = make_batch([(1, 200), (9, 9)], head_dim=64)
    none = batch.attend(attention=paged_attention, sinks=torch.full((4,), -torch.inf))
    assert torch.equal(none, batch.attend(attention=paged_attention))
    assert not batch.attend(attention=paged_attention, sinks=torch.full((4,), 500.0)).any()


def test_queries_may_be_parts_of_wider_tensors(isa: str) -> None:
    batch = make_batch([(1, 30), (4, 9)], head_dim=16)
    expected = batch.attend(attention=paged_attention)
    wide = torch.full((5, 100), torch.nan)
    wide[:, 20:84] = batch.query.flatten(1)
    batch.query = wide[:, 20:84].unflatten(1, (4, 16))
    assert torch.equal(batch.attend(attention=paged_attention), expected)


def test_no_sequences_give_no_rows(isa: str) -> None:
    batch = make_batch([(1, 4)])
    batch.query, batch.query_lens, batch.seq_lens = batch.query[:0], [], []
    assert batch.attend(attention=paged_attention).shape == (0, 4, 4)


def test_what_the_kernel_would_misread_is_refused(native: ModuleType) -> None:
    batch = make_batch([(2, 4)])
    with pytest.raises(TypeError, match=r"sinks must be torch\.float32 \[4\]"):
        batch.attend(attention=paged_attention, sinks=torch.zeros(3))
    with pytest.raises(TypeError, match=r"of int8 with scales, not torch\.float32 .* with scales"):
        batch.attend(attention=paged_attention, key_scales=torch.zeros(3, 4, 2), value_scales=torch.zeros(3, 4, 2))
    batch.query = batch.query.bfloat16()
    with pytest.raises(TypeError, match=r"queries must be torch\.float32"):
        batch.attend(attention=paged_attention)
    small = make_batch([(2, 4)], cache_dtype=torch.int8)
    small.key_scales = torch.zeros(1, 1, 2)
    with pytest.raises(TypeError, match=r"scales must be contiguous torch\.float32"):
        small.attend(attention=paged_attention)
    small.key_scales = small.value_scales = None
    with pytest.raises(TypeError, match=r"not torch\.int8 .* without scales"):
        small.attend(attention=paged_attention)
