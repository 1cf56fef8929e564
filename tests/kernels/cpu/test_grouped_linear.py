"""Weights with a scale for each group of inputs, of 4 and 8 bits, with zero points, with offsets and with neither."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from octavo.kernels.cpu import (
    PackedInt4Weight,
    PackedInt8GroupsWeight,
    int4_linear,
    int8_groups_linear,
    pack_int4,
    pack_int8_groups,
)

HALF_ULP = 2.0**-24
GROUP_SIZES = (32, 64, 128)
SHIFTS = ("half", "zeros", "offsets")
PACK = {4: pack_int4, 8: pack_int8_groups}
LINEAR = {4: int4_linear, 8: int8_groups_linear}
# The instruction set stays the same for all examples of a test.
properties = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def isa(product_isa: str) -> str:
    """Models of instruction sets included."""
    return product_isa


def make_parts(
    bits: int, seed: int, out_features: int, in_features: int, group_size: int, scale_dtype: torch.dtype, shift: str
) -> dict[str, Tensor]:
    """Return a weight's parts by the names that ``fill`` gives them."""
    generator = torch.Generator().manual_seed(seed)
    groups = out_features, in_features // group_size
    parts = {
        "values": torch.randint(0, 256, (out_features, in_features * bits // 8), generator=generator).byte(),
        "scales": (torch.randn(groups, generator=generator) * 0.05).to(scale_dtype),
    }
    if shift == "zeros":
        parts["zeros"] = torch.randint(0, 2**bits, groups, generator=generator).byte()
    if shift == "offsets":
        parts["offsets"] = torch.randn(groups, generator=generator).to(scale_dtype)
    return parts


def dequantize(bits: int, parts: dict[str, Tensor]) -> NDArray[np.float64]:
    """Return what the parts stand for, ``[out_features, in_features]``."""
    packed, scales = parts["values"].numpy(), parts["scales"].double().numpy()[..., None]
    values = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1)
    whole = values.reshape(*parts["scales"].shape, -1).astype(np.float64)
    if "offsets" in parts:
        dense = whole * scales - parts["offsets"].double().numpy()[..., None]
    elif "zeros" in parts:
        dense = (whole - parts["zeros"].double().numpy()[..., None]) * scales
    else:
        dense = (whole - 2 ** (bits - 1)) * scales
    return np.asarray(dense).reshape(len(packed), -1)


def round_groups(x: Tensor, group_size: int) -> NDArray[np.float64]:
    """Round each group of each row to int8 so that its largest magnitude becomes 127, and scale it back."""
    wide = x.view(-1, group_size).numpy()
    largest = np.abs(wide).max(axis=1, keepdims=True)
    scales = (largest / np.float32(127)).astype(np.float64)
    rounded: NDArray[np.float64] = np.rint(wide * (np.float32(127) / largest)).astype(np.float64) * scales
    return rounded.reshape(x.shape)


@properties
@given(
    seed=st.integers(0, 2**31),
    num_tokens=st.integers(1, 40),
    out_features=st.integers(1, 80),
    num_groups=st.integers(1, 5),
    group_size=st.sampled_from(GROUP_SIZES),
    scale_dtype=st.sampled_from([torch.float16, torch.float32]),
    shift=st.sampled_from(SHIFTS),
    bits=st.sampled_from([4, 8]),
)
def test_linear_is_the_product_with_the_dequantised_weight_up_to_rounding_of_sums(
    isa: str,
    seed: int,
    num_tokens: int,
    out_features: int,
    num_groups: int,
    group_size: int,
    scale_dtype: torch.dtype,
    shift: str,
    bits: int,
) -> None:
    in_features = num_groups * group_size
    parts = make_parts(bits, seed, out_features, in_features, group_size, scale_dtype, shift)
    x = torch.randn((num_tokens, in_features), generator=torch.Generator().manual_seed(seed))
    result = LINEAR[bits](x, PACK[bits](**parts)).double().numpy()
    tokens = round_groups(x, group_size)
    exact = tokens @ dequantize(bits, parts).T
    # What is summed in float32, before products of scales and of offsets cancel.
    scaled = dequantize(bits, {name: part for name, part in parts.items() if name != "offsets"})
    size = np.abs(tokens) @ np.abs(scaled).T
    if shift == "offsets":
        offsets = parts["offsets"].double().abs().numpy().repeat(group_size, axis=1)
        largest = 2**bits * parts["scales"].double().abs().numpy().repeat(group_size, axis=1)
        size = np.abs(tokens) @ (largest + offsets).T
    assert (np.abs(result - exact) <= (2 * num_groups + 5) * HALF_ULP * size).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_an_outlier_costs_precision_in_its_own_group_only(isa: str, bits: int) -> None:
    parts = make_parts(bits, 0, 40, 256, 32, torch.float16, "half")
    dense = torch.from_numpy(dequantize(bits, parts))
    x = torch.randn((3, 256), generator=torch.Generator().manual_seed(1))
    x[:, 70] *= 100
    result = LINEAR[bits](x, PACK[bits](**parts)).double()
    half_steps = x.view(3, 8, 32).abs().amax(dim=2).double() / 254
    bound = half_steps.repeat_interleave(32, dim=1) @ dense.abs().T
    assert ((result - x.double() @ dense.T).abs() <= bound * (1 + 1e-4)).all()
    # With one scale a token, the errors of all groups would be as large as that of the outlier's.
    assert (bound < 0.5 * half_steps.amax(dim=1, keepdim=True) @ dense.abs().sum(dim=1, keepdim=True).T).all()


@pytest.mark.parametrize("group_size", GROUP_SIZES)
@pytest.mark.parametrize("value", [0, 255])
def test_the_largest_int8_sums_of_a_group_are_exact(isa: str, value: int, group_size: int) -> None:
    values = torch.full((2, 2 * group_size), value, dtype=torch.uint8)
    scales = torch.ones(2, 2)
    for zero in (0, 255):
        for sign in (1.0, -1.0):
            x = torch.full((1, 2 * group_size), 127.0 * sign)
            weight = pack_int8_groups(values, scales, torch.full((2, 2), zero, dtype=torch.uint8))
            expected = 2 * group_size * 127 * sign * (value - zero)
            assert int8_groups_linear(x, weight).tolist() == [[expected, expected]]


@pytest.mark.parametrize("bits", [4, 8])
def test_instruction_sets_with_fused_multiply_add_give_the_same_bits_with_offsets(
    native: ModuleType, bits: int
) -> None:
    weight = PACK[bits](**make_parts(bits, 0, 70, 96, 32, torch.float16, "offsets"))
    x = torch.randn(17, 96, generator=torch.Generator().manual_seed(1))
    before, results = native.active_isa(), []
    for name in native.available_isas() + native.modelled_isas():
        if name != "portable":
            native.set_active_isa(name)
            results.append(LINEAR[bits](x, weight))
    native.set_active_isa(before)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("bits", [4, 8])
def test_unpacking_gives_the_weight_back(
    native: ModuleType, bits: int, shift: str, scale_dtype: torch.dtype, gated: bool
) -> None:
    parts = make_parts(bits, 0, 74, 192, 64, scale_dtype, shift)
    values, scales, shifts = PACK[bits](**parts, gated=gated).unpack()
    assert torch.equal(values, parts["values"])
    assert torch.equal(scales, parts["scales"])
    if shift == "half":
        assert shifts is None
    else:
        assert shifts is not None
        assert torch.equal(shifts, parts[shift])


def test_int8_groups_can_be_filled_in_parts(native: ModuleType) -> None:
    parts = make_parts(8, 0, 48, 64, 32, torch.float16, "zeros")
    weight = PackedInt8GroupsWeight(48, 64, group_size=32, has_zeros=True)
    for rows in (slice(40, 48), slice(0, 33), slice(33, 40)):
        weight.fill(rows.start, parts["values"][rows].T.contiguous().T, parts["scales"][rows], parts["zeros"][rows])
    assert torch.equal(weight.unpack()[0], parts["values"])


def test_packed_int8_groups_take_little_more_memory_than_their_numbers(native: ModuleType) -> None:
    assert PackedInt8GroupsWeight(1024, 512, group_size=32).num_bytes == 1024 * 512 + 2 * 1024 * 512 // 32


def test_shifts_of_another_kind_are_refused(native: ModuleType) -> None:
    parts = make_parts(8, 0, 4, 64, 32, torch.float16, "offsets")
    with pytest.raises(ValueError, match="zero points or offsets, not both"):
        PackedInt4Weight(4, 64, group_size=32, has_zeros=True, has_offsets=True)
    with pytest.raises(TypeError, match="this weight has no offsets"):
        PackedInt8GroupsWeight(4, 64, group_size=32).fill(0, **parts)
    with pytest.raises(TypeError, match="this weight has offsets"):
        PackedInt8GroupsWeight(4, 64, group_size=32, has_offsets=True).fill(0, parts["values"], parts["scales"])
    with pytest.raises(TypeError, match=r"offsets must be torch\.float16 \[4, 2\]"):
        PackedInt8GroupsWeight(4, 64, group_size=32, has_offsets=True).fill(
            0, parts["values"], parts["scales"], offsets=parts["offsets"].float()
        )
    with pytest.raises(TypeError, match=r"values must be torch\.uint8 \[4, 64\]"):
        PackedInt8GroupsWeight(4, 64, group_size=32).fill(0, parts["values"][:, :32], parts["scales"])
