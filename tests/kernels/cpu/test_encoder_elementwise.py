"""Native layer normalisation and GELU equal torch's."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels import cpu, reference


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (33, 384), (100, 17)])
@pytest.mark.parametrize("has_residual", [True, False])
def test_layer_norm_equals_torch(shape: tuple[int, int], has_residual: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, residual = (torch.randn(shape, generator=generator) * 3 + 1 for _ in range(2))
    weight, bias = (torch.randn(shape[1], generator=generator) for _ in range(2))
    added = residual if has_residual else None
    expected = reference.layer_norm(
        x.double(), weight.double(), bias.double(), 1e-5, None if added is None else added.double()
    )
    torch.testing.assert_close(cpu.layer_norm(x, weight, bias, 1e-5, added), expected.float(), atol=2e-5, rtol=1e-5)


def test_gelu_equals_torch() -> None:
    x = torch.cat([torch.linspace(-12, 12, 20_011), torch.tensor([0.0, -0.0, 1e-30, -1e-6, 50.0, -50.0, 1e30])])
    expected = reference.gelu(x.double()).float()
    torch.testing.assert_close(cpu.gelu(x), expected, atol=1e-6, rtol=1e-6)


def test_gelu_lets_nan_and_infinity_through() -> None:
    result = cpu.gelu(torch.tensor([float("nan"), float("inf")]))
    assert result.isnan()[0]
    assert result[1] == float("inf")


def test_wrong_tensors_are_refused() -> None:
    with pytest.raises(TypeError, match="weight must be"):
        cpu.layer_norm(torch.zeros(2, 4), torch.zeros(3), torch.zeros(4), 1e-5)
    with pytest.raises(TypeError, match=r"x must be torch\.float32"):
        cpu.gelu(torch.zeros(2, 4, dtype=torch.float64))
