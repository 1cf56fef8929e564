"""Linear layers that round activations to bfloat16, against torch in float64, for every instruction set."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from octavo.kernels.cpu import PackedWeight, embedding, linear, linear_silu_and_mul, pack
from tests.kernels.cpu.products import HALF_ULP, columns, exact_product, inputs, noise, rows, seeds

LEAST_NORMAL = 2.0**-126
# The instruction set stays the same for all examples of a test.
properties = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
# From where all products are subnormal to where sums are just not infinite.
scales = st.sampled_from([1e-38, 1e-36, 1e-15, 1.0, 1e15, 1e35])


@pytest.fixture
def isa(product_isa: str) -> str:
    """Models of instruction sets included."""
    return product_isa


def packed_for_rounding(weight: Tensor, *, gated: bool = False) -> PackedWeight:
    return pack(weight, gated=gated, rounds_activations=True)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the exact product of the rounded activations, and how far a sum in float32 in any order may be from it.

    Inputs, products and sums may also lose what is subnormal.
    """
    rounded = x.bfloat16()
    exact, bound = exact_product(rounded, weight, bias)
    wide_x, wide_weight = rounded.double(), weight.double()
    lost = LEAST_NORMAL * (wide_weight.abs().sum(1) + wide_x.abs().sum(1, keepdim=True) + 2 * x.shape[1])
    return exact, bound + lost


@properties
@given(
    seed=seeds,
    num_tokens=rows,
    out_features=columns,
    in_features=inputs,
    x_scale=scales,
    with_bias=st.booleans(),
    with_residual=st.booleans(),
)
def test_linear_is_the_product_of_rounded_activations_up_to_rounding_of_sums(
    isa: str,
    seed: int,
    num_tokens: int,
    out_features: int,
    in_features: int,
    x_scale: float,
    with_bias: bool,
    with_residual: bool,
) -> None:
    weight = noise(seed, out_features, in_features).bfloat16()
    x = noise(seed + 1, num_tokens, in_features, scale=x_scale)
    bias = noise(seed + 2, out_features, scale=x_scale) if with_bias else None
    residual = noise(seed + 3, num_tokens, out_features, scale=x_scale) if with_residual else None
    exact, bound = product(x, weight, bias)
    if residual is not None:
        exact, bound = exact + residual.double(), bound + residual.double().abs() * 2 * HALF_ULP
    assert ((linear(x, packed_for_rounding(weight), bias, residual).double() - exact).abs() <= bound).all()


@properties
@given(seed=seeds, num_tokens=rows, size=columns, in_features=inputs, with_bias=st.booleans())
def test_gated_linear_is_silu_of_the_first_half_times_the_second(
    isa: str, seed: int, num_tokens: int, size: int, in_features: int, with_bias: bool
) -> None:
    weight = noise(seed, 2 * size, in_features).bfloat16()
    x = noise(seed + 1, num_tokens, in_features)
    bias = noise(seed + 2, 2 * size) if with_bias else None
    exact, bound = product(x, weight, bias)
    gate, up = exact.chunk(2, dim=-1)
    gate_bound, up_bound = bound.chunk(2, dim=-1)
    expected = F.silu(gate) * up
    # silu's slope is at most 1.1; silu and the product add a few roundings of their own.
    allowed = 1.1 * gate_bound * (up.abs() + up_bound) + F.silu(gate).abs() * up_bound + 12 * HALF_ULP * expected.abs()
    result = linear_silu_and_mul(x, packed_for_rounding(weight, gated=True), bias)
    assert result.shape == (num_tokens, size)
    assert ((result.double() - expected).abs() <= allowed).all()


def test_activations_are_rounded_to_nearest_even(isa: str) -> None:
    bits = torch.arange(0x00800000, 0x7F800000, 9973, dtype=torch.int32)
    ties = torch.arange(0x3F800000, 0x3F800000 + 300 * 0x8000, 0x8000, dtype=torch.int32)
    largest = torch.tensor([0x7F7F7FFF, 0x7F7F8000], dtype=torch.int32)  # the latter rounds to infinity
    x = torch.cat([bits, ties, largest]).view(torch.float32)
    x = torch.cat([x, -x]).unsqueeze(1)
    one = packed_for_rounding(torch.ones(1, 1, dtype=torch.bfloat16))
    torch.testing.assert_close(linear(x, one), x.bfloat16().float(), rtol=0, atol=0)


def test_every_normal_weight_is_multiplied_exactly_and_unpacked(isa: str) -> None:
    weight = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16).unsqueeze(1)
    packed = packed_for_rounding(weight)
    torch.testing.assert_close(packed.unpack(), weight, rtol=0, atol=0, equal_nan=True)
    result = linear(torch.ones(1, 1), packed)[0]
    is_subnormal = weight[:, 0].float().abs() < LEAST_NORMAL
    expected = weight[:, 0].float()
    torch.testing.assert_close(result[~is_subnormal], expected[~is_subnormal], rtol=0, atol=0, equal_nan=True)
    assert ((result == expected) | (result == 0))[is_subnormal].all()


def test_nan_and_infinity_go_through_as_in_torch_and_stay_in_their_rows(isa: str) -> None:
    weight, x = noise(0, 34, 40).bfloat16(), noise(1, 20, 40)
    weight[3, 5] = 0.0
    x[2, 7], x[4, 5], x[19, 0] = torch.nan, torch.inf, -torch.inf
    expected = F.linear(x.bfloat16().float(), weight.float())
    assert expected[4, 3].isnan()
    assert expected[19].isinf().all()
    torch.testing.assert_close(linear(x, packed_for_rounding(weight)), expected, rtol=1e-4, atol=1e-4, equal_nan=True)
    gate, up = expected.chunk(2, dim=-1)
    gated = linear_silu_and_mul(x, packed_for_rounding(weight, gated=True))
    torch.testing.assert_close(gated, F.silu(gate) * up, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("in_features", "gated"), [(130, False), (131, True), (7, False)])
def test_a_row_does_not_depend_on_the_other_rows_nor_on_threads(
    isa: str, native: ModuleType, in_features: int, gated: bool
) -> None:
    compute = linear_silu_and_mul if gated else linear
    x = noise(0, 45, in_features)
    packed = packed_for_rounding(noise(1, 200, in_features).bfloat16(), gated=gated)
    together = compute(x, packed)
    for num_tokens in (*range(1, 19), 31, 32, 33):
        assert torch.equal(compute(x[:num_tokens], packed), together[:num_tokens])
    for num_threads in (1, 3):
        native.set_num_threads(num_threads)
        assert torch.equal(compute(x, packed), together)
    native.set_num_threads(2)


def test_sums_in_float32_give_the_same_bits_with_every_fused_multiply_add(native: ModuleType) -> None:
    fused = [name for name in native.available_isas() if name not in ("portable", "avx512_bf16", "amx")]
    x, packed = noise(0, 17, 101), packed_for_rounding(noise(1, 70, 101).bfloat16())
    exact = pack(packed.unpack())
    before = native.active_isa()
    for name in fused:
        native.set_active_isa(name)
        assert torch.equal(linear(x, packed), linear(x.bfloat16().float(), exact))
    native.set_active_isa(before)


def test_rows_may_be_parts_of_wider_tensors(isa: str) -> None:
    wide_x, wide_out, weight = noise(0, 6, 50), noise(1, 6, 90), noise(2, 40, 20).bfloat16()
    x, out = wide_x[:, 10:30], wide_out[:, 20:60]
    before = wide_out.clone()
    assert linear(x, packed_for_rounding(weight), residual=out, out=out) is out
    torch.testing.assert_close(out, before[:, 20:60] + x.bfloat16().float() @ weight.float().T)
    assert torch.equal(wide_out[:, :20], before[:, :20])
    assert torch.equal(wide_out[:, 60:], before[:, 60:])


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (32, 16), (33, 65), (250, 7)])
def test_unpacking_gives_the_weight_back(native: ModuleType, shape: tuple[int, int], gated: bool) -> None:
    weight = noise(0, shape[0] * (2 if gated else 1), shape[1]).bfloat16()
    packed = packed_for_rounding(weight, gated=gated)
    assert torch.equal(packed.unpack(), weight)
    token_ids = torch.tensor([len(weight) - 1, 0])
    assert torch.equal(embedding(token_ids, packed), weight[token_ids].float())


def test_a_weight_takes_the_memory_of_its_numbers(native: ModuleType) -> None:
    assert PackedWeight(96, 64, torch.bfloat16, rounds_activations=True).num_bytes == 96 * 64 * 2


def test_without_rows_or_inputs_nothing_is_multiplied(isa: str) -> None:
    assert linear(torch.empty(0, 8), packed_for_rounding(noise(0, 5, 8).bfloat16())).shape == (0, 5)
    bias, residual = noise(0, 5), noise(1, 2, 5)
    no_inputs = PackedWeight(5, 0, torch.bfloat16, rounds_activations=True)
    assert torch.equal(linear(torch.empty(2, 0), no_inputs, bias, residual), bias + residual)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_only_weights_of_bfloat16_are_packed_for_it(native: ModuleType, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"rounded for weights of bfloat16, not for {dtype}"):
        pack(torch.ones(2, 2, dtype=dtype), rounds_activations=True)


def test_the_probe_counts_a_multiplication_and_an_addition_for_each_product(isa: str, native: ModuleType) -> None:
    lanes = {"portable": 4, "avx2": 8}.get(isa, 16)
    assert native.multiply_bf16(3) % (3 * native.num_threads() * lanes * 2 * 2) == 0
    assert native.multiply_bf16(6) == 2 * native.multiply_bf16(3)
