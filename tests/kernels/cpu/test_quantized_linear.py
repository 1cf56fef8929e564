"""Linear layers over int8 and int4 weights against numpy, for every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from octavo.kernels.cpu import (
    PackedInt4Weight,
    PackedInt8GroupsWeight,
    PackedInt8Weight,
    QuantizedRows,
    int4_linear,
    int4_linear_silu_and_mul,
    int8_embedding,
    int8_groups_linear,
    int8_groups_linear_silu_and_mul,
    int8_linear,
    int8_linear_silu_and_mul,
    pack_int4,
    pack_int8,
    pack_int8_groups,
)

HALF_ULP = 2.0**-24
GROUP_SIZES = (32, 64, 128)
# The instruction set stays the same for all examples of a test.
properties = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**31)
rows = st.integers(1, 40)
columns = st.integers(1, 100)
inputs = st.integers(1, 300)


@pytest.fixture
def isa(product_isa: str) -> str:
    """Models of instruction sets included."""
    return product_isa


def noise(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def integers(seed: int, low: int, high: int, *shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def int8_weight(seed: int, out_features: int, in_features: int) -> tuple[Tensor, Tensor]:
    values = integers(seed, -128, 128, out_features, in_features, dtype=torch.int8)
    return values, noise(seed + 1, out_features).abs() * 0.01


def int4_weight(
    seed: int,
    out_features: int,
    in_features: int,
    group_size: int,
    *,
    scale_dtype: torch.dtype = torch.float16,
    has_zeros: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None]:
    groups = out_features, in_features // group_size
    values = integers(seed, 0, 256, out_features, in_features // 2, dtype=torch.uint8)
    zeros = integers(seed + 1, 0, 16, *groups, dtype=torch.uint8) if has_zeros else None
    return values, (noise(seed + 2, *groups) * 0.05).to(scale_dtype), zeros


def dequantize_int4(values: Tensor, scales: Tensor, zeros: Tensor | None) -> NDArray[np.float64]:
    """Return ``(values - zeros) * scales`` ``[out_features, in_features]``."""
    packed = values.numpy()
    whole = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*scales.shape, -1).astype(np.float64)
    zero = np.full((*scales.shape, 1), 8.0) if zeros is None else zeros.numpy()[..., None].astype(np.float64)
    dense: NDArray[np.float64] = ((whole - zero) * scales.double().numpy()[..., None]).reshape(len(values), -1)
    return dense


def quantize(x: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Round each row so that its largest magnitude becomes 127; ties go to even."""
    wide = x.numpy()
    largest = np.abs(wide).max(axis=1)
    with np.errstate(divide="ignore"):
        inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
    return np.rint(wide * inverse[:, None]).astype(np.int64), largest / np.float32(127)


def exact_int8(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    """Return integer products, converted and then scaled in float32: token by token, then column by column."""
    tokens, token_scales = quantize(x)
    sums = (tokens @ values.numpy().astype(np.int64).T).astype(np.float32)
    return torch.from_numpy(sums * token_scales[:, None] * scales.numpy())


@properties
@given(
    seed=seeds,
    num_tokens=rows,
    out_features=columns,
    in_features=inputs,
    x_scale=st.sampled_from([1e-30, 1.0, 1e30]),
    zero_row=st.booleans(),
)
def test_int8_linear_is_the_integer_product_to_the_last_bit(
    isa: str, seed: int, num_tokens: int, out_features: int, in_features: int, x_scale: float, zero_row: bool
) -> None:
    values, scales = int8_weight(seed, out_features, in_features)
    x = noise(seed + 2, num_tokens, in_features, scale=x_scale)
    if zero_row:
        x[num_tokens // 2] = 0
    assert torch.equal(int8_linear(x, pack_int8(values, scales)), exact_int8(x, values, scales))


@pytest.mark.parametrize("in_features", [1, 4097, 131_072])
@pytest.mark.parametrize("extreme", [-128, 127])
def test_the_largest_sums_do_not_overflow(isa: str, extreme: int, in_features: int) -> None:
    values, scales = torch.full((3, in_features), extreme, dtype=torch.int8), torch.tensor([1.0, 0.5, 2.0])
    x = torch.tensor([[1.0], [-1.0], [0.25]]).expand(3, in_features)
    assert torch.equal(int8_linear(x.contiguous(), pack_int8(values, scales)), exact_int8(x, values, scales))


@properties
@given(
    seed=seeds,
    num_tokens=rows,
    out_features=columns,
    num_groups=st.integers(1, 6),
    group_size=st.sampled_from(GROUP_SIZES),
    scale_dtype=st.sampled_from([torch.float16, torch.float32]),
    has_zeros=st.booleans(),
)
def test_int4_linear_is_the_product_with_the_dequantised_weight_up_to_rounding_of_sums(
    isa: str,
    seed: int,
    num_tokens: int,
    out_features: int,
    num_groups: int,
    group_size: int,
    scale_dtype: torch.dtype,
    has_zeros: bool,
) -> None:
    in_features = num_groups * group_size
    weight = int4_weight(seed, out_features, in_features, group_size, scale_dtype=scale_dtype, has_zeros=has_zeros)
    x = noise(seed + 3, num_tokens, in_features)
    dense = dequantize_int4(*weight)
    result = int4_linear(x, pack_int4(*weight)).double().numpy()
    tokens, scales = quantize(x.view(-1, group_size))
    steps = scales.astype(np.float64).repeat(group_size).reshape(x.shape)
    rounded = tokens.reshape(x.shape) * steps
    rounding = (2 * num_groups + 4) * HALF_ULP * (np.abs(rounded) @ np.abs(dense).T)
    assert (np.abs(result - rounded @ dense.T) <= rounding).all()
    # Against activations as they came: each is off by half a step at most.
    half_step = steps / 2 @ np.abs(dense).T * (1 + 1e-5)
    assert (np.abs(result - x.double().numpy() @ dense.T) <= rounding + half_step).all()


@pytest.mark.parametrize("group_size", GROUP_SIZES)
@pytest.mark.parametrize("nibble", [0, 15])
def test_the_largest_int4_sums_do_not_saturate(isa: str, nibble: int, group_size: int) -> None:
    values = torch.full((2, group_size), 17 * nibble, dtype=torch.uint8)
    scales = torch.ones(2, 2)
    for zero in (0, 15):
        zeros = torch.full((2, 2), zero, dtype=torch.uint8)
        for sign in (1.0, -1.0):
            x = torch.full((1, 2 * group_size), 127.0 * sign)
            expected = 2 * group_size * 127 * sign * (nibble - zero)
            assert int4_linear(x, pack_int4(values, scales, zeros)).tolist() == [[expected, expected]]


Linear = Callable[..., Tensor]
Weight = PackedInt8Weight | PackedInt4Weight | PackedInt8GroupsWeight
FORMATS = ("int8", "int4", "int8_groups")


def layer(kind: str, out_features: int, in_features: int, *, gated: bool = False) -> tuple[Linear, Weight]:
    """Return the function and a packed weight of a format."""
    if kind == "int8":
        weight = pack_int8(*int8_weight(0, out_features, in_features), gated=gated)
        return (int8_linear_silu_and_mul if gated else int8_linear), weight
    if kind == "int8_groups":
        values = integers(0, 0, 256, out_features, in_features, dtype=torch.uint8)
        zeros = integers(1, 0, 256, out_features, in_features // 32, dtype=torch.uint8)
        scales = noise(2, out_features, in_features // 32, scale=0.01).half()
        return (
            int8_groups_linear_silu_and_mul if gated else int8_groups_linear,
            pack_int8_groups(values, scales, zeros, gated=gated),
        )
    return (
        int4_linear_silu_and_mul if gated else int4_linear,
        pack_int4(*int4_weight(0, out_features, in_features, 32), gated=gated),
    )


def empty(kind: str, out_features: int, in_features: int) -> Weight:
    """Return a weight that was not filled."""
    if kind == "int8":
        return PackedInt8Weight(out_features, in_features)
    return (PackedInt4Weight if kind == "int4" else PackedInt8GroupsWeight)(out_features, in_features, group_size=32)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("out_features", [1, 16, 33, 100])
def test_bias_and_residual_are_added_last(isa: str, kind: str, out_features: int) -> None:
    linear, weight = layer(kind, out_features, 96)
    x, bias, wide = noise(3, 7, 96), noise(4, out_features), noise(5, 7, out_features + 20)
    residual = wide[:, 5 : 5 + out_features]
    expected, before = linear(x, weight) + bias + residual, wide.clone()
    assert linear(x, weight, bias, residual, residual) is residual
    torch.testing.assert_close(residual, expected, rtol=1e-6, atol=1e-6)
    residual.copy_(before[:, 5 : 5 + out_features])
    assert torch.equal(wide, before)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [1, 16, 17, 70])
def test_gated_linear_is_silu_of_the_first_half_times_the_second(isa: str, kind: str, size: int) -> None:
    linear, weight = layer(kind, 2 * size, 64)
    gated_linear, gated_weight = layer(kind, 2 * size, 64, gated=True)
    x, bias = noise(3, 13, 64), noise(4, 2 * size)
    gate, up = linear(x, weight, bias).chunk(2, dim=1)
    torch.testing.assert_close(gated_linear(x, gated_weight, bias), F.silu(gate) * up, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_does_not_depend_on_the_other_rows_nor_on_threads(isa: str, native: ModuleType, kind: str) -> None:
    linear, weight = layer(kind, 200, 160)
    x = noise(3, 45, 160)
    together = linear(x, weight)
    for num_tokens in (1, 2, 3, 4, 5, 6, 7, 10, 11, 16, 17, 31):
        assert torch.equal(linear(x[:num_tokens], weight), together[:num_tokens])
    for num_threads in (1, 3):
        native.set_num_threads(num_threads)
        assert torch.equal(linear(x, weight), together)
    native.set_num_threads(2)


@pytest.mark.parametrize("kind", FORMATS)
def test_instruction_sets_with_fused_multiply_add_give_the_same_bits(native: ModuleType, kind: str) -> None:
    linear, weight = layer(kind, 70, 96)
    x, bias = noise(3, 40, 96), noise(4, 70)
    before, results = native.active_isa(), []
    for name in native.available_isas() + native.modelled_isas():
        if name != "portable":
            native.set_active_isa(name)
            results.append(linear(x, weight, bias))
    native.set_active_isa(before)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_with_nan_or_infinity_gives_nan_and_leaves_the_others(isa: str, kind: str) -> None:
    linear, weight = layer(kind, 40, 96)
    x = noise(3, 9, 96)
    expected = linear(x, weight)
    poisoned = torch.tensor([1, 4, 8])
    x[1, 0], x[4, 95], x[8, 33] = torch.nan, torch.inf, -torch.inf
    expected[poisoned] = torch.nan
    torch.testing.assert_close(linear(x, weight), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", FORMATS)
def test_activations_can_be_quantised_once_for_several_weights(isa: str, kind: str) -> None:
    x = noise(3, 9, 96)
    quantized = QuantizedRows(x, None if kind == "int8" else 32)
    for out_features, gated in ((40, False), (64, True)):
        linear, weight = layer(kind, out_features, 96, gated=gated)
        assert torch.equal(linear(quantized, weight), linear(x, weight))


@properties
@given(
    seed=seeds,
    num_tokens=rows,
    size=inputs,
    group_size=st.sampled_from([None, *GROUP_SIZES]),
    x_scale=st.sampled_from([1e-36, 1e-3, 1.0, 1e38]),
)
def test_activations_are_rounded_as_numpy_rounds_them(
    isa: str, seed: int, num_tokens: int, size: int, group_size: int | None, x_scale: float
) -> None:
    x = torch.rand((num_tokens, size + 3), generator=torch.Generator().manual_seed(seed)).sub(0.5).mul(x_scale)
    x = x[:, 3:]
    x[:, :: group_size or size] = x_scale
    # Many values lie halfway between two whole numbers.
    x[0] = (x[0] / x_scale * 508).round() / 2 * (x_scale / 127)
    values, scales = QuantizedRows(x, group_size).read()
    for index, group in enumerate(x.split(group_size or size, dim=1)):
        expected_values, expected_scales = quantize(group)
        start = index * (group_size or size)
        assert np.array_equal(values[:, start : start + group.shape[1]].numpy(), expected_values)
        assert np.array_equal(scales[:, index].numpy(), expected_scales)


def test_rows_of_the_smallest_numbers_are_off_by_half_a_step_at_most(isa: str) -> None:
    x = torch.tensor([[1e-37, -3e-38, 1e-38], [1e-40, -2e-40, 0.0], [1e-45, 0.0, -1e-45]])
    values, scales = QuantizedRows(x).read()
    steps = scales.double()
    assert (steps > 0).all()
    assert ((values * steps - x).abs() <= steps * 0.50001).all()


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (32, 16), (33, 65), (250, 7)])
def test_unpacking_int8_gives_the_weight_back(native: ModuleType, shape: tuple[int, int], gated: bool) -> None:
    values, scales = int8_weight(0, shape[0] * (2 if gated else 1), shape[1])
    unpacked = pack_int8(values, scales, gated=gated).unpack()
    assert torch.equal(unpacked[0], values)
    assert torch.equal(unpacked[1], scales)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("has_zeros", [False, True])
@pytest.mark.parametrize("group_size", GROUP_SIZES)
def test_unpacking_int4_gives_the_weight_back(
    native: ModuleType, group_size: int, has_zeros: bool, scale_dtype: torch.dtype, gated: bool
) -> None:
    weight = int4_weight(0, 74, 3 * group_size, group_size, scale_dtype=scale_dtype, has_zeros=has_zeros)
    for unpacked, tensor in zip(pack_int4(*weight, gated=gated).unpack(), weight, strict=True):
        if tensor is None:
            assert unpacked is None
        else:
            assert unpacked is not None
            assert torch.equal(unpacked, tensor)


def test_weights_can_be_filled_in_parts_from_any_layout(native: ModuleType) -> None:
    values, scales = int8_weight(0, 48, 30)
    int8 = PackedInt8Weight(48, 30)
    assert torch.equal(int8.unpack()[0], torch.zeros_like(values))
    for part in (slice(40, 48), slice(0, 33), slice(33, 40)):
        transposed = values[part].T.contiguous().T
        int8.fill(part.start, transposed, scales[part])
    assert torch.equal(int8.unpack()[0], values)
    assert torch.equal(int8.unpack()[1], scales)

    nibbles, group_scales, zeros = int4_weight(0, 48, 64, 32)
    assert zeros is not None
    int4 = PackedInt4Weight(48, 64, group_size=32, has_zeros=True)
    for part in (slice(40, 48), slice(0, 33), slice(33, 40)):
        int4.fill(part.start, nibbles[part].T.contiguous().T, group_scales[part], zeros[part])
    assert torch.equal(int4.unpack()[0], nibbles)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_weight_that_was_not_filled_gives_zeros(isa: str, kind: str) -> None:
    weight = empty(kind, 40, 64)
    linear = layer(kind, 1, 32)[0]
    assert torch.equal(linear(noise(0, 3, 64), weight), torch.zeros(3, 40))


def test_packed_weights_take_little_more_memory_than_their_numbers(native: ModuleType) -> None:
    assert PackedInt8Weight(1024, 512).num_bytes == 1024 * 512 + 4 * 1024
    assert PackedInt4Weight(1024, 512, group_size=64).num_bytes == 1024 * 512 // 2 + 2 * 1024 * 512 // 64


def test_embedding_rows_come_out_of_the_packed_table(native: ModuleType) -> None:
    values, scales = int8_weight(0, 100, 26)
    token_ids = torch.tensor([5, 99, 0, 5, 31, 32])
    table = pack_int8(values, scales)
    assert torch.equal(int8_embedding(token_ids, table), (values.float() * scales.unsqueeze(1))[token_ids])
    for wrong in (-1, 100):
        with pytest.raises(IndexError, match=f"row {wrong} of a matrix of 100 rows"):
            int8_embedding(torch.tensor([0, wrong]), table)


@pytest.mark.parametrize("kind", FORMATS)
def test_no_tokens_give_no_rows_and_no_inputs_leave_the_bias(isa: str, kind: str) -> None:
    linear, weight = layer(kind, 5, 32)
    assert linear(torch.empty(0, 32), weight).shape == (0, 5)
    bias = noise(0, 5)
    assert torch.equal(linear(torch.empty(2, 0), empty(kind, 5, 0), bias), bias.expand(2, 5))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_the_kernel_would_misread_is_refused(native: ModuleType, kind: str) -> None:
    linear, weight = layer(kind, 6, 32)
    gated_linear, gated_weight = layer(kind, 6, 32, gated=True)
    x = noise(1, 3, 32)
    with pytest.raises(TypeError, match=r"x must be torch\.float32 \[3, 32\].* not torch\.bfloat16"):
        linear(x.bfloat16(), weight)
    with pytest.raises(TypeError, match=r"x must be \[3, 32\], not \[3, 31\]"):
        linear(QuantizedRows(x[:, 1:], weight.rounding_group_size), weight)
    with pytest.raises(TypeError, match="x must be rounded in groups of"):
        linear(QuantizedRows(x, 64), weight)
    with pytest.raises(TypeError, match=r"bias must be torch\.float32 \[6\]"):
        linear(x, weight, noise(2, 7))
    with pytest.raises(TypeError, match=r"residual must be torch\.float32 \[3, 6\]"):
        linear(x, weight, residual=noise(2, 1, 6))
    with pytest.raises(TypeError, match=r"out must be torch\.float32 \[3, 6\]"):
        linear(x, weight, out=torch.empty(3, 5))
    with pytest.raises(ValueError, match="not gated"):
        gated_linear(x, weight)
    with pytest.raises(ValueError, match="is gated"):
        linear(x, gated_weight)


def test_what_cannot_be_packed_is_refused(native: ModuleType) -> None:
    with pytest.raises(ValueError, match="131073 cannot be packed: sums of more than 131072 products"):
        PackedInt8Weight(1, 131_073)
    with pytest.raises(ValueError, match="a weight of 3 by 2 cannot be packed"):
        PackedInt8Weight(3, 2, gated=True)
    with pytest.raises(ValueError, match="in groups of 48; they may be 32, 64 or 128"):
        PackedInt4Weight(4, 96, group_size=48)
    with pytest.raises(ValueError, match="a weight of 4 by 96 cannot be packed in groups of 64"):
        PackedInt4Weight(4, 96, group_size=64)
    with pytest.raises(ValueError, match="no scales of type bfloat16"):
        PackedInt4Weight(4, 64, group_size=64, scale_dtype=torch.bfloat16)
    int8 = PackedInt8Weight(4, 2)
    with pytest.raises(TypeError, match=r"values must be torch\.int8 \[1, 2\]"):
        int8.fill(0, torch.ones(1, 2), torch.ones(1))
    with pytest.raises(TypeError, match=r"scales must be torch\.float32 \[1\]"):
        int8.fill(0, torch.ones(1, 2, dtype=torch.int8), torch.ones(2))
    with pytest.raises(ValueError, match="rows 3 to 5 of a weight with 4 rows"):
        int8.fill(3, torch.ones(2, 2, dtype=torch.int8), torch.ones(2))
    values, scales, zeros = int4_weight(0, 4, 64, 32)
    with pytest.raises(TypeError, match="this weight has no zero points"):
        PackedInt4Weight(4, 64, group_size=32).fill(0, values, scales, zeros)
    with pytest.raises(TypeError, match="this weight has zero points"):
        PackedInt4Weight(4, 64, group_size=32, has_zeros=True).fill(0, values, scales)


def test_the_machines_limit_can_be_measured(isa: str, native: ModuleType) -> None:
    assert native.multiply_int8(10) == 10 * native.multiply_int8(1) > 0
