"""Linear layers over packed weights against torch in float64, for every instruction set of this machine."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from octavo.kernels.cpu import PackedWeight, embedding, linear, linear_silu_and_mul, pack
from tests.kernels.cpu.products import HALF_ULP, columns, exact_product, inputs, noise, rows, seeds

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# The instruction set stays the same for all examples of a test.
properties = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@properties
@given(
    seed=seeds,
    num_tokens=rows,
    out_features=columns,
    in_features=inputs,
    dtype=st.sampled_from(DTYPES),
    x_scale=st.sampled_from([1e-15, 1.0, 1e15]),
    with_bias=st.booleans(),
    with_residual=st.booleans(),
)
def test_linear_is_the_exact_product_up_to_rounding_of_sums(
    isa: str,
    seed: int,
    num_tokens: int,
    out_features: int,
    in_features: int,
    dtype: torch.dtype,
    x_scale: float,
    with_bias: bool,
    with_residual: bool,
) -> None:
    weight = noise(seed, out_features, in_features).to(dtype)
    x = noise(seed + 1, num_tokens, in_features, scale=x_scale)
    bias = noise(seed + 2, out_features, scale=x_scale) if with_bias else None
    residual = noise(seed + 3, num_tokens, out_features, scale=x_scale) if with_residual else None
    exact, bound = exact_product(x, weight, bias)
    if residual is not None:
        exact, bound = exact + residual.double(), bound + residual.double().abs() * 2 * HALF_ULP
    assert ((linear(x, pack(weight), bias, residual).double() - exact).abs() <= bound).all()


@properties
@given(
    seed=seeds,
    num_tokens=rows,
    size=columns,
    in_features=inputs,
    dtype=st.sampled_from(DTYPES),
    with_bias=st.booleans(),
)
def test_gated_linear_is_silu_of_the_first_half_times_the_second(
    isa: str, seed: int, num_tokens: int, size: int, in_features: int, dtype: torch.dtype, with_bias: bool
) -> None:
    weight = noise(seed, 2 * size, in_features).to(dtype)
    x = noise(seed + 1, num_tokens, in_features)
    bias = noise(seed + 2, 2 * size) if with_bias else None
    exact, bound = exact_product(x, weight, bias)
    gate, up = exact.chunk(2, dim=-1)
    gate_bound, up_bound = bound.chunk(2, dim=-1)
    expected = F.silu(gate) * up
    # silu's slope is at most 1.1; silu and the product add a few roundings of their own.
    allowed = 1.1 * gate_bound * (up.abs() + up_bound) + F.silu(gate).abs() * up_bound + 12 * HALF_ULP * expected.abs()
    result = linear_silu_and_mul(x, pack(weight, gated=True), bias)
    assert result.shape == (num_tokens, size)
    assert ((result.double() - expected).abs() <= allowed).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_16_bit_number_is_widened_exactly(isa: str, dtype: torch.dtype) -> None:
    weight = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype).unsqueeze(1)
    packed = pack(weight)
    torch.testing.assert_close(
        linear(torch.ones(1, 1), packed)[0], weight[:, 0].float(), rtol=0, atol=0, equal_nan=True
    )
    torch.testing.assert_close(packed.unpack(), weight, rtol=0, atol=0, equal_nan=True)


def test_silu_is_right_to_a_few_ulps_over_the_whole_range(isa: str) -> None:
    gate = torch.cat([torch.linspace(-120, 120, 50_001), torch.tensor([0.0, -0.0, 1e-40, 1e30])])
    packed = pack(torch.tensor([[1.0], [0.0]]), gated=True)
    result = linear_silu_and_mul(gate.unsqueeze(1), packed, torch.tensor([0.0, 1.0]))[:, 0].double()
    expected = F.silu(gate.double())
    is_normal = expected.abs() > 1e-36
    torch.testing.assert_close(result[is_normal], expected[is_normal], rtol=5e-7, atol=0)
    assert (result[~is_normal] - expected[~is_normal]).abs().max() < 1e-36


def test_nan_and_infinity_go_through_as_in_torch_and_stay_in_their_rows(isa: str) -> None:
    weight, x = noise(0, 33, 40), noise(1, 20, 40)
    weight[3, 5] = 0.0
    x[2, 7], x[4, 5], x[19, 0] = torch.nan, torch.inf, -torch.inf
    expected = F.linear(x, weight)
    assert expected[4, 3].isnan()
    assert expected[19].isinf().all()
    torch.testing.assert_close(linear(x, pack(weight)), expected, rtol=1e-4, atol=1e-4, equal_nan=True)
    gated = linear_silu_and_mul(x, pack(weight[:32], gated=True))
    gate, up = expected[:, :32].chunk(2, dim=-1)
    torch.testing.assert_close(gated, F.silu(gate) * up, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_the_other_rows_nor_on_threads(
    isa: str, native: ModuleType, dtype: torch.dtype
) -> None:
    x, packed = noise(0, 45, 130), pack(noise(1, 200, 130).to(dtype))
    together = linear(x, packed)
    for num_tokens in (1, 2, 3, 4, 5, 8, 12, 13, 31):
        assert torch.equal(linear(x[:num_tokens], packed), together[:num_tokens])
    for num_threads in (1, 3):
        native.set_num_threads(num_threads)
        assert torch.equal(linear(x, packed), together)
    native.set_num_threads(2)


def test_instruction_sets_with_fused_multiply_add_give_the_same_bits(native: ModuleType) -> None:
    fused = [name for name in native.available_isas() if name != "portable"]
    x, packed = noise(0, 17, 100), pack(noise(1, 70, 100).to(torch.bfloat16))
    results = []
    before = native.active_isa()
    for name in fused:
        native.set_active_isa(name)
        results.append(linear(x, packed))
    native.set_active_isa(before)
    assert all(torch.equal(result, results[0]) for result in results)


def test_rows_may_be_parts_of_wider_tensors(isa: str) -> None:
    wide_x, wide_out, weight = noise(0, 6, 50), noise(1, 6, 90), noise(2, 40, 20)
    x, out = wide_x[:, 10:30], wide_out[:, 20:60]
    before = wide_out.clone()
    assert linear(x, pack(weight), residual=out, out=out) is out
    torch.testing.assert_close(out, before[:, 20:60] + x @ weight.T)
    assert torch.equal(wide_out[:, :20], before[:, :20])
    assert torch.equal(wide_out[:, 60:], before[:, 60:])


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (32, 16), (33, 65), (250, 7)])
def test_unpacking_gives_the_weight_back(
    native: ModuleType, shape: tuple[int, int], dtype: torch.dtype, gated: bool
) -> None:
    weight = noise(0, shape[0] * (2 if gated else 1), shape[1]).to(dtype)
    assert torch.equal(pack(weight, gated=gated).unpack(), weight)


def test_a_weight_can_be_filled_in_parts_from_any_layout(native: ModuleType) -> None:
    parts = [noise(0, 40, 30), noise(1, 30, 7).T, noise(2, 1, 60)[:, ::2]]
    packed = PackedWeight(48, 30, torch.float32)
    first = 0
    for part in parts:
        packed.fill(first, part)
        first += len(part)
    assert torch.equal(packed.unpack(), torch.cat(parts))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("layout", [torch.float32, torch.float16, torch.bfloat16, "pairs"])
@properties
@given(cuts=st.lists(st.integers(0, 140), max_size=8))
def test_rows_may_come_a_few_at_a_time(
    native: ModuleType, cuts: list[int], layout: torch.dtype | str, gated: bool
) -> None:
    dtype = torch.bfloat16 if isinstance(layout, str) else layout
    weight = noise(0, 140, 71).to(dtype)
    packed = PackedWeight(140, 71, dtype, gated=gated, rounds_activations=layout == "pairs")
    for first, end in pairwise(sorted({0, *cuts, 140})):
        packed.fill(first, weight[first:end])
    assert torch.equal(packed.unpack(), weight)


@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_rows_come_out_of_the_packed_table(native: ModuleType, dtype: torch.dtype) -> None:
    table = noise(0, 100, 24).to(dtype)
    token_ids = torch.tensor([5, 99, 0, 5, 31, 32])
    assert torch.equal(embedding(token_ids, pack(table)), F.embedding(token_ids, table).float())
    for wrong in (-1, 100):
        with pytest.raises(IndexError, match=f"row {wrong} of a matrix of 100 rows"):
            embedding(torch.tensor([0, wrong]), pack(table))


def test_no_tokens_give_no_rows(isa: str) -> None:
    assert linear(torch.empty(0, 8), pack(noise(0, 5, 8))).shape == (0, 5)
    assert embedding(torch.empty(0, dtype=torch.int64), pack(noise(0, 5, 8))).shape == (0, 8)


def test_without_inputs_only_bias_and_residual_are_left(isa: str) -> None:
    bias, residual = noise(0, 5), noise(1, 2, 5)
    assert torch.equal(linear(torch.empty(2, 0), PackedWeight(5, 0, torch.bfloat16), bias, residual), bias + residual)


def test_what_the_kernel_would_misread_is_refused(native: ModuleType) -> None:
    packed, x = pack(noise(0, 6, 8)), noise(1, 3, 8)
    with pytest.raises(TypeError, match=r"x must be torch\.float32 \[3, 8\].* not torch\.bfloat16 \[3, 8\]"):
        linear(x.bfloat16(), packed)
    with pytest.raises(TypeError, match=r"x must be .*contiguous in its last dimension"):
        linear(noise(1, 8, 3).T, packed)
    with pytest.raises(TypeError, match=r"bias must be torch\.float32 \[6\]"):
        linear(x, packed, noise(2, 7))
    with pytest.raises(TypeError, match=r"residual must be torch\.float32 \[3, 6\]"):
        linear(x, packed, residual=noise(2, 1, 6))
    with pytest.raises(TypeError, match=r"out must be torch\.float32 \[3, 6\]"):
        linear(x, packed, out=torch.empty(3, 5))
    with pytest.raises(ValueError, match="not gated"):
        linear_silu_and_mul(x, packed)
    with pytest.raises(ValueError, match="is gated"):
        linear(x, pack(noise(0, 6, 8), gated=True))
    with pytest.raises(TypeError, match=r"token ids of torch\.int64"):
        embedding(torch.tensor([1], dtype=torch.int32), packed)


def test_what_cannot_be_packed_is_refused(native: ModuleType) -> None:
    with pytest.raises(TypeError, match=r"torch\.int8 cannot be packed"):
        pack(torch.ones(2, 2, dtype=torch.int8))
    with pytest.raises(ValueError, match="a weight of 3 by 2 cannot be packed"):
        pack(torch.ones(3, 2), gated=True)
    packed = PackedWeight(4, 2, torch.float32)
    with pytest.raises(TypeError, match=r"rows of torch\.float32 \[n, 2\]"):
        packed.fill(0, torch.ones(1, 3))
    with pytest.raises(ValueError, match="rows 3 to 5 of a weight with 4 rows"):
        packed.fill(3, torch.ones(2, 2))
