"""Norms, rotation with the write to the cache, and gates, for every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from octavo.kernels import reference
from octavo.kernels.cpu import gelu_tanh_and_mul, rms_norm, rotary_write_kv, silu_and_mul

HALF_ULP = 2.0**-24
CACHE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8)
properties = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
seeds = st.integers(0, 2**31)
rows = st.integers(1, 9)


def noise(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def angles(seed: int, num_tokens: int, rotary_dim: int) -> tuple[Tensor, Tensor]:
    half = noise(seed, num_tokens, rotary_dim // 2)
    return torch.cat((half, half), dim=-1).cos(), torch.cat((half, half), dim=-1).sin()


@properties
@given(
    seed=seeds,
    num_rows=rows,
    size=st.integers(1, 300),
    scale=st.sampled_from([1e-15, 1.0, 1e15]),
    with_residual=st.booleans(),
)
def test_rms_norm_divides_by_the_root_of_the_mean_square(
    isa: str, seed: int, num_rows: int, size: int, scale: float, with_residual: bool
) -> None:
    x, weight = noise(seed, num_rows, size, scale=scale), noise(seed + 1, size)
    residual = noise(seed + 2, num_rows, size, scale=scale) if with_residual else None
    normalised, total = rms_norm(x, weight, 1e-6, residual)
    summed = x if residual is None else x + residual
    assert torch.equal(total, summed)
    wide = summed.double()
    expected = weight.double() * wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert ((normalised.double() - expected).abs() <= (size / 2 + 6) * HALF_ULP * expected.abs()).all()


@pytest.mark.parametrize(
    ("kernel", "activation"),
    [(silu_and_mul, F.silu), (gelu_tanh_and_mul, lambda gate: F.gelu(gate, approximate="tanh"))],
)
def test_gates_are_the_activation_of_the_first_half_times_the_second(
    isa: str, kernel: Callable[[Tensor], Tensor], activation: Callable[[Tensor], Tensor]
) -> None:
    edges = torch.tensor([0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, torch.inf, torch.nan])
    for gate in (torch.linspace(-30, 30, 10_001), edges):
        up = noise(0, len(gate))
        result = kernel(torch.stack((gate, up)).flatten().unsqueeze(0))[0].double()
        expected = activation(gate.double()) * up.double()
        # Far below zero both fall off like e^-x², and a rounding of the exponent grows with it.
        torch.testing.assert_close(result, expected, rtol=2e-6, atol=1e-6, equal_nan=True)


@properties
@given(seed=seeds, num_rows=rows, size=st.integers(1, 70))
def test_gates_take_any_size_and_rows_apart(isa: str, seed: int, num_rows: int, size: int) -> None:
    wide = noise(seed, num_rows, 2 * size + 9)
    x = wide[:, 5 : 5 + 2 * size]
    torch.testing.assert_close(silu_and_mul(x), reference.silu_and_mul(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gelu_tanh_and_mul(x), reference.gelu_tanh_and_mul(x), rtol=1e-5, atol=1e-6)


@properties
@given(
    seed=seeds,
    num_tokens=rows,
    num_kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    half_head=st.sampled_from([2, 8, 10, 16, 40, 64, 128]),
    part=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    cache_dtype=st.sampled_from(CACHE_DTYPES),
    with_norms=st.booleans(),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
)
def test_rotation_and_write_agree_with_torch(
    isa: str,
    seed: int,
    num_tokens: int,
    num_kv_heads: int,
    group: int,
    half_head: int,
    part: float,
    cache_dtype: torch.dtype,
    with_norms: bool,
    scale: float,
) -> None:
    if cache_dtype is torch.float16:
        scale = 1.0
    head_dim = 2 * half_head
    num_heads = num_kv_heads * group
    # Query, key and value as slices of one projection.
    projected = noise(seed, num_tokens, (num_heads + 2 * num_kv_heads) * head_dim, scale=scale)
    query, key, value = (
        heads.unflatten(1, (-1, head_dim))
        for heads in projected.split([count * head_dim for count in (num_heads, num_kv_heads, num_kv_heads)], dim=1)
    )
    cos, sin = angles(seed + 1, num_tokens, 2 * int(half_head * part))
    norms = (noise(seed + 2, head_dim), noise(seed + 3, head_dim), 1e-6) if with_norms else ()
    slots = torch.randperm(24, generator=torch.Generator().manual_seed(seed))[:num_tokens]
    shape = (6, 4, num_kv_heads, head_dim)
    is_int8 = cache_dtype is torch.int8
    results = []
    for function in (rotary_write_kv, reference.rotary_write_kv):
        caches = [torch.full(shape, 99, dtype=cache_dtype) for _ in range(2)]
        scales = [torch.full(shape[:3], torch.nan) for _ in range(2)] if is_int8 else []
        named = dict(zip(("key_scales", "value_scales"), scales, strict=False))
        rotated = function(query, key, value, cos, sin, caches[0], caches[1], slots, *norms, **named)
        results.append((rotated, caches, scales))
    (rotated, caches, scales), (expected, expected_caches, expected_scales) = results
    magnitude = 1.0 if with_norms else scale
    torch.testing.assert_close(rotated, expected, rtol=1e-5, atol=2e-5 * magnitude)
    assert torch.equal(caches[1], expected_caches[1])  # values are only rounded
    if is_int8:
        torch.testing.assert_close(scales[0], expected_scales[0], rtol=1e-5, atol=0, equal_nan=True)
        torch.testing.assert_close(scales[1], expected_scales[1], rtol=0, atol=0, equal_nan=True)
        assert (caches[0].int() - expected_caches[0].int()).abs().max() <= 1  # halves may go either way
    else:
        ulp = torch.finfo(cache_dtype).eps
        torch.testing.assert_close(
            caches[0].double(), expected_caches[0].double(), rtol=max(2 * ulp, 1e-5), atol=2e-5 * magnitude
        )


def rotate_values(value: Tensor) -> tuple[Tensor, Tensor]:
    """Write values into an int8 cache and read the numbers and scales back."""
    num_tokens, num_kv_heads, head_dim = value.shape
    caches = [torch.zeros(num_tokens, 1, num_kv_heads, head_dim, dtype=torch.int8) for _ in range(2)]
    scales = [torch.zeros(num_tokens, 1, num_kv_heads) for _ in range(2)]
    cos, sin = angles(0, num_tokens, head_dim)
    slots = torch.arange(num_tokens)
    rotary_write_kv(value, value, value, cos, sin, *caches, slots, key_scales=scales[0], value_scales=scales[1])
    return caches[1][:, 0], scales[1][:, 0]


@properties
@given(seed=seeds, head_dim=st.integers(1, 80).map(lambda half: 2 * half), scale=st.sampled_from([1e-36, 1.0, 1e36]))
def test_int8_is_within_half_a_step_of_the_number(isa: str, seed: int, head_dim: int, scale: float) -> None:
    value = noise(seed, 3, 2, head_dim, scale=scale)
    numbers, scales = rotate_values(value)
    assert torch.equal(numbers.abs().amax(-1), torch.full((3, 2), 127, dtype=torch.int8))
    read = numbers.double() * scales.double().unsqueeze(-1)
    assert ((read - value.double()).abs() <= scales.double().unsqueeze(-1) * 0.5001).all()


def test_int8_of_zeros_is_zero_and_of_what_is_not_finite_not_a_number(isa: str) -> None:
    value = noise(0, 5, 1, 20)
    value[0], value[1, 0, 19], value[2, 0, 3], value[3, 0, 0] = 0.0, torch.nan, torch.inf, -torch.inf
    numbers, scales = rotate_values(value)
    assert not numbers[:4].any()
    assert scales[0] == 0
    assert scales[1:4].isnan().all()
    assert scales[4].isfinite()


def test_not_a_number_stays_in_its_row_or_head(isa: str) -> None:
    x = noise(0, 4, 100)
    expected, _ = rms_norm(x, torch.ones(100), 1e-6)
    x[1, 50], expected[1] = torch.nan, torch.nan
    torch.testing.assert_close(rms_norm(x, torch.ones(100), 1e-6)[0], expected, rtol=0, atol=0, equal_nan=True)
    query, key = noise(1, 3, 2, 16), noise(2, 3, 1, 16)
    query[1, 1, 3] = torch.nan
    cos, sin = angles(3, 3, 16)
    caches = torch.zeros(3, 1, 1, 16), torch.zeros(3, 1, 1, 16)
    rotated = rotary_write_kv(query, key, key, cos, sin, *caches, torch.arange(3))
    is_nan = torch.zeros(3, 2, 16, dtype=torch.bool)
    is_nan[1, 1, [3, 11]] = True
    assert torch.equal(rotated.isnan(), is_nan)


def test_a_row_is_the_same_bits_whatever_is_beside_it_and_on_any_number_of_threads(
    isa: str, native: ModuleType
) -> None:
    num_rows, heads, head_dim = 90, 12, 80
    x, residual, weight = noise(0, num_rows, 1001), noise(1, num_rows, 1001), noise(2, 1001)
    gates, query, key = noise(3, num_rows, 1800), noise(4, num_rows, heads, head_dim), noise(5, num_rows, 2, head_dim)
    cos, sin = angles(6, num_rows, 40)
    head_weight = noise(7, head_dim)

    def compute(first: int, end: int) -> list[Tensor]:
        part = slice(first, end)
        shape = (end - first, 1, 2, head_dim)
        caches = [torch.zeros(shape, dtype=torch.int8) for _ in range(2)]
        scales = [torch.zeros(shape[:3]) for _ in range(2)]
        rotated = rotary_write_kv(
            *(query[part], key[part], key[part], cos[part], sin[part], *caches, torch.arange(end - first)),
            *(head_weight, head_weight, 1e-6, *scales),
        )
        normalised, total = rms_norm(x[part], weight, 1e-6, residual[part])
        return [normalised, total, silu_and_mul(gates[part]), gelu_tanh_and_mul(gates[part]), rotated, *caches, *scales]

    together = compute(0, num_rows)
    for num_threads in (1, 2, 3):
        native.set_num_threads(num_threads)
        for first, end in ((0, num_rows), (0, 1), (37, 38), (13, 60), (num_rows - 1, num_rows)):
            for part, whole in zip(compute(first, end), together, strict=True):
                assert torch.equal(part, whole[first:end])
    native.set_num_threads(2)


def test_what_the_kernels_would_misread_is_refused(native: ModuleType) -> None:
    query = noise(0, 2, 4, 16)
    key = noise(1, 2, 2, 16)
    caches = torch.zeros(2, 4, 2, 16), torch.zeros(2, 4, 2, 16)
    cos, sin = angles(2, 2, 16)
    slots = torch.arange(2)
    with pytest.raises(TypeError, match=r"cos and sin \[2, an even number up to 16\]"):
        rotary_write_kv(query, key, key, *angles(2, 2, 18), *caches, slots)
    with pytest.raises(TypeError, match=r"slots must be torch\.int64 \[2\]"):
        rotary_write_kv(query, key, key, cos, sin, *caches, slots.int())
    with pytest.raises(TypeError, match=r"caches must be two contiguous tensors"):
        rotary_write_kv(query, key, key, cos, sin, caches[0][..., :8], caches[1], slots)
    with pytest.raises(TypeError, match=r"norm weights must be torch\.float32 \[16\]"):
        rotary_write_kv(query, key, key, cos, sin, *caches, slots, torch.ones(8), torch.ones(16), 1e-6)
    with pytest.raises(TypeError, match="as many gates as factors"):
        gelu_tanh_and_mul(torch.zeros(2, 3))
    with pytest.raises(TypeError, match=r"a residual of shape \[2, 8\]"):
        rms_norm(torch.zeros(2, 8), torch.zeros(8), 1e-6, torch.zeros(1, 8))
