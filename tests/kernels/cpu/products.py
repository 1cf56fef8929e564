"""What tests of linear layers have in common: sizes to try, noise, and the exact product with the error of its sums."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

HALF_ULP = 2.0**-24
seeds = st.integers(0, 2**31)
rows = st.integers(1, 40)
columns = st.integers(1, 100)
inputs = st.integers(1, 70)


def noise(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def exact_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the exact product, and how far a sum in float32 in any order may be from it."""
    wide_x, wide_weight = x.double(), weight.double()
    exact, magnitude = wide_x @ wide_weight.T, wide_x.abs() @ wide_weight.abs().T
    if bias is not None:
        exact, magnitude = exact + bias.double(), magnitude + bias.double().abs()
    return exact, magnitude * HALF_ULP * (x.shape[1] + 3)
