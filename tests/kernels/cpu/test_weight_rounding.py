"""Weights are rounded natively to the bits that the torch version gives, by every instruction set."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.kernels.cpu import quantize_int4, quantize_int8
from octavo.models.quantization import rounding

# The instruction set stays the same for all examples of a test.
properties = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**31)
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
scales_of_weights = st.sampled_from([1e-42, 1e-30, 1e-6, 0.02, 300.0])


def random_weight(seed: int, rows: int, columns: int, scale: float, dtype: torch.dtype) -> torch.Tensor:
    """Return a weight with a row of zeros, and one where a group's largest magnitude occurs with both signs."""
    weight = torch.randn((rows, columns), generator=torch.Generator().manual_seed(seed)) * scale
    weight[0] = 0
    weight[-1, ::2] = -weight[-1].abs().max()
    weight[-1, 1::2] = weight[-1].abs().max()
    return weight.to(dtype)


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model's rounding be that of a machine without the native module."""
    monkeypatch.setattr("octavo.models.quantization.rounding.cpu.has_native", lambda: False)


@properties
@given(seed=seeds, rows=st.integers(2, 9), columns=st.integers(1, 200), scale=scales_of_weights, dtype=dtypes)
def test_int8_is_what_torch_gives(
    isa: str, in_torch: None, seed: int, rows: int, columns: int, scale: float, dtype: torch.dtype
) -> None:
    weight = random_weight(seed, rows, 2 * columns, scale, dtype)[:, columns:]
    values, scales = quantize_int8(weight)
    expected = rounding.quantize_int8(weight)
    assert torch.equal(values, expected.values)
    assert torch.equal(scales, expected.scales)


@properties
@given(
    seed=seeds,
    rows=st.integers(2, 9),
    num_groups=st.integers(1, 4),
    group_size=st.sampled_from([32, 64, 128]),
    scale=scales_of_weights,
    dtype=dtypes,
)
def test_int4_is_what_torch_gives(
    isa: str,
    in_torch: None,
    seed: int,
    rows: int,
    num_groups: int,
    group_size: int,
    scale: float,
    dtype: torch.dtype,
) -> None:
    weight = random_weight(seed, rows, num_groups * group_size, scale, dtype)
    values, scales = quantize_int4(weight, group_size)
    expected = rounding.quantize_int4(weight, group_size)
    assert torch.equal(values, expected.values)
    assert torch.equal(scales.view(torch.int16), expected.scales.view(torch.int16))


def test_the_model_rounds_natively_where_it_can(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        "octavo.models.quantization.rounding.cpu.quantize_int8",
        lambda weight: (calls.append(weight.shape), quantize_int8(weight))[1],
    )
    rounding.quantize_int8(torch.ones(3, 5, dtype=torch.bfloat16))
    rounding.quantize_int8(torch.ones(3, 5, dtype=torch.float64))
    assert calls == [(3, 5)]


def test_what_cannot_be_rounded_is_refused(native: ModuleType) -> None:
    with pytest.raises(TypeError, match="a weight of float32, bfloat16 or float16"):
        quantize_int8(torch.ones(2, 2, dtype=torch.float64))
    with pytest.raises(TypeError, match="a weight of float32, bfloat16 or float16"):
        quantize_int4(torch.ones(64), 32)
    for columns, group_size in ((96, 64), (96, 48)):
        with pytest.raises(ValueError, match=f"{columns} inputs cannot be quantized in groups of {group_size}"):
            quantize_int4(torch.ones(2, columns), group_size)
