"""Norm, rotation, gate and cache writes against loops in float64."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import kernels
from octavo.kernels import reference

sizes = st.integers(1, 5)
seeds = st.integers(0, 2**31)


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, num_tokens=sizes, size=sizes, with_residual=st.booleans())
def test_rms_norm_divides_by_the_root_of_the_mean_square(
    seed: int, num_tokens: int, size: int, with_residual: bool
) -> None:
    x, weight = noise(seed, num_tokens, size), noise(seed + 1, size)
    residual = noise(seed + 2, num_tokens, size) if with_residual else None
    normalised, total = kernels.rms_norm(x, weight, 1e-5, residual)
    for row in range(num_tokens):
        summed = x[row].double() + (residual[row].double() if residual is not None else 0)
        root = math.sqrt(sum(value * value for value in summed.tolist()) / size + 1e-5)
        torch.testing.assert_close(total[row].double(), summed, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(normalised[row].double(), weight.double() * summed / root, atol=1e-5, rtol=1e-5)


def test_rms_norm_in_bfloat16_takes_the_mean_in_float32() -> None:
    # 256 + 1 is 256 in bfloat16: a sum of squares in that type would stop growing.
    x = torch.full((1, 4096), 1.0, dtype=torch.bfloat16)
    normalised, total = kernels.rms_norm(x, torch.ones(4096, dtype=torch.bfloat16), 0.0)
    assert normalised.dtype == total.dtype == torch.bfloat16
    assert torch.equal(normalised, x)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, num_tokens=sizes, num_heads=sizes, num_kv_heads=sizes, half=sizes, rest=st.integers(0, 5))
def test_rotary_multiplies_each_pair_by_a_complex_unit_and_leaves_the_rest(
    seed: int, num_tokens: int, num_heads: int, num_kv_heads: int, half: int, rest: int
) -> None:
    head_dim = 2 * half + rest
    query, key = noise(seed, num_tokens, num_heads, head_dim), noise(seed + 1, num_tokens, num_kv_heads, head_dim)
    angles = noise(seed + 2, num_tokens, half)
    cos, sin = (torch.cat((part, part), dim=-1) for part in (angles.cos(), angles.sin()))
    for before, after in zip((query, key), reference.apply_rotary(query, key, cos, sin), strict=True):
        unit = torch.polar(torch.ones_like(angles).double(), angles.double()).unsqueeze(1)
        turned = torch.complex(before[..., :half].double(), before[..., half : 2 * half].double()) * unit
        expected = torch.cat((turned.real, turned.imag, before[..., 2 * half :].double()), dim=-1)
        torch.testing.assert_close(after.double(), expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, num_tokens=sizes, size=sizes)
def test_gate_is_silu_of_the_first_half_times_the_second(seed: int, num_tokens: int, size: int) -> None:
    x = noise(seed, num_tokens, 2 * size)
    result = kernels.silu_and_mul(x)
    assert result.shape == (num_tokens, size)
    for row in range(num_tokens):
        for column in range(size):
            gate, up = x[row, column].item(), x[row, size + column].item()
            assert math.isclose(result[row, column].item(), gate / (1 + math.exp(-gate)) * up, abs_tol=1e-5)


def test_tanh_gate_is_that_of_the_paper() -> None:
    x = noise(0, 3, 20)
    result = kernels.gelu_tanh_and_mul(x)
    for row in range(3):
        for column in range(10):
            gate, up = x[row, column].item(), x[row, 10 + column].item()
            tanh = math.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))
            assert math.isclose(result[row, column].item(), gate / 2 * (1 + tanh) * up, abs_tol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, head_dim=st.integers(1, 20), scale=st.sampled_from([1e-36, 1.0, 1e36]))
def test_int8_is_within_half_a_step_of_the_number_and_the_largest_is_127(
    seed: int, head_dim: int, scale: float
) -> None:
    x = noise(seed, 3, 2, head_dim) * scale
    numbers, scales = reference.quantize_kv(x)
    assert numbers.abs().amax(-1).eq(127).all()
    steps = scales.double().unsqueeze(-1)
    assert ((numbers.double() * steps - x.double()).abs() <= 0.5001 * steps).all()


def test_int8_of_zeros_is_zero_and_of_what_is_not_finite_not_a_number() -> None:
    x = torch.tensor([[[0.0, 0.0]], [[1.0, torch.nan]], [[-torch.inf, 1.0]]])
    numbers, scales = reference.quantize_kv(x)
    assert not numbers.any()
    assert scales[0] == 0
    assert scales[1:].isnan().all()


def test_int8_keys_and_values_land_in_their_slots_with_their_scales() -> None:
    key, value = noise(0, 2, 3, 4), noise(1, 2, 3, 4)
    caches = [torch.full((2, 2, 3, 4), 99, dtype=torch.int8) for _ in range(2)]
    scales = [torch.full((2, 2, 3), math.pi) for _ in range(2)]
    reference.write_kv(key, value, *caches, torch.tensor([3, 1]), *scales)
    for written, cache, factors in zip((key, value), caches, scales, strict=True):
        read = cache.flatten(0, 1)[[3, 1]] * factors.flatten(0, 1)[[3, 1]].unsqueeze(-1)
        torch.testing.assert_close(read, written, atol=0.02, rtol=0)
        assert cache.flatten(0, 1)[[0, 2]].eq(99).all()
        assert factors.flatten(0, 1)[[0, 2]].eq(math.pi).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, data=st.data(), num_blocks=sizes, block_size=sizes, num_kv_heads=sizes)
def test_keys_and_values_land_in_their_slots_and_nowhere_else(
    seed: int, data: st.DataObject, num_blocks: int, block_size: int, num_kv_heads: int
) -> None:
    slots = data.draw(st.lists(st.integers(0, num_blocks * block_size - 1), unique=True))
    key, value = noise(seed, len(slots), num_kv_heads, 2), noise(seed + 1, len(slots), num_kv_heads, 2)
    key_cache, value_cache = (torch.full((num_blocks, block_size, num_kv_heads, 2), math.pi) for _ in range(2))
    reference.write_kv(key, value, key_cache, value_cache, torch.tensor(slots, dtype=torch.int64))
    for written, cache in ((key, key_cache), (value, value_cache)):
        for slot in range(num_blocks * block_size):
            stored = cache[slot // block_size, slot % block_size]
            expected = written[slots.index(slot)] if slot in slots else torch.full_like(stored, math.pi)
            assert torch.equal(stored, expected)
