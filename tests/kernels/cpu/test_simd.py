"""The vector functions that kernels are written with, against numpy and torch, for every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

LANES = {"portable": 4, "avx2": 8, "avx512": 16, "avx512_vnni": 16, "avx512_bf16": 16, "amx": 16}
SPECIAL = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan])


def probe(native: ModuleType, name: str, x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    native.run_simd_probe(name, x.data_ptr(), x.numel(), out.data_ptr())
    return out


def all_magnitudes() -> Tensor:
    """Return numbers of both signs with every exponent, and the special ones."""
    bits = torch.arange(0, 0x7F800000, 9973, dtype=torch.int32)
    positive = bits.view(torch.float32)
    return torch.cat([positive, -positive, SPECIAL])


def test_exp_is_right_to_two_ulps(isa: str, native: ModuleType) -> None:
    x = torch.cat([torch.linspace(-87, 88.7, 200_003), torch.tensor([1e-30, -1e-30, 0.0])])
    exact = np.exp(x.double().numpy())
    error = np.abs(probe(native, "exp", x).double().numpy() - exact)
    assert (error <= 2 * np.spacing(exact.astype(np.float32)).astype(np.float64)).all()


def test_exp_at_the_ends_of_its_range(isa: str, native: ModuleType) -> None:
    x = torch.tensor([-torch.inf, -1e30, -105.0, 89.0, 1e30, torch.inf, torch.nan, -0.0, -95.0, -103.0])
    result = probe(native, "exp", x)
    expected = torch.exp(x.double()).float()
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=2e-45, equal_nan=True)
    assert result[:3].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sqrt", lambda x: torch.from_numpy(np.sqrt(x.numpy()))),  # torch's own is not always rounded right
        ("round_to_even", torch.round),
        ("through_bf16", lambda x: x.bfloat16().float()),
        ("through_f16", lambda x: x.half().float()),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # square roots of negative numbers
def test_roundings_are_exact(isa: str, native: ModuleType, name: str, expected: Callable[[Tensor], Tensor]) -> None:
    halves = torch.arange(-50.0, 50.0, 0.5)
    # Halfway between two neighbours in bfloat16, and in float16 in its normal and subnormal ranges.
    ties = torch.cat([1 + torch.arange(257) / 256, 1 + torch.arange(2049) / 2048, torch.arange(2049) * 2.0**-25])
    limits = torch.tensor([65504.0, 65519.99, 65520.0, 3.3895e38, 3.4e38])
    x = torch.cat([all_magnitudes(), halves, ties, limits, -ties])
    torch.testing.assert_close(probe(native, name, x), expected(x), rtol=0, atol=0, equal_nan=True)


def test_sum_and_largest_of_the_lanes(isa: str, native: ModuleType) -> None:
    lanes = LANES[isa]
    x = torch.randint(-1000, 1000, (50, lanes), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(probe(native, "sum", x), x.sum(1, keepdim=True).expand_as(x))
    assert torch.equal(probe(native, "max_lane", x), x.amax(1, keepdim=True).expand_as(x))
