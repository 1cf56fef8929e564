"""Products with quantised weights against numpy, in float64 and one number at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import kernels
from octavo.kernels.reference.quantized_linear import quantize_tokens

seeds = st.integers(0, 2**31)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def integers(seed: int, low: int, high: int, *shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, num_tokens=st.integers(1, 4), size=st.integers(1, 70), with_bias=st.booleans())
def test_int8_is_an_integer_product_with_tokens_rounded_to_int8(
    seed: int, num_tokens: int, size: int, with_bias: bool
) -> None:
    x = noise(seed, num_tokens, size) * 10
    values = integers(seed, -127, 128, 5, size, dtype=torch.int8)
    scales, bias = noise(seed + 1, 5), noise(seed + 2, 5) if with_bias else None
    got = kernels.int8_linear(x, values, scales, bias)
    for token in range(num_tokens):
        row = x[token].double().numpy()
        scale = np.abs(row).max() / 127
        # What lies half-way between two integers may be rounded to either in another precision.
        rounded = np.rint(row / scale)
        product = values.numpy().astype(np.int64) @ rounded.astype(np.int64)
        slack = scale * 127 * scales.abs().numpy() * (np.abs(row / scale - np.trunc(row / scale)) == 0.5).sum()
        expected = product * scale * scales.numpy() + (bias.numpy() if bias is not None else 0)
        assert np.all(np.abs(got[token].numpy() - expected) <= 1e-5 * (1 + np.abs(expected)) + slack)


def test_int8_sums_stay_exact_beyond_what_float32_can_count() -> None:
    values = torch.full((1, 8192), 127, dtype=torch.int8)
    values[0, 0] = 126
    x = torch.full((1, 8192), 127.0)
    expected = torch.tensor([[127.0 * 127 * 8192 - 127]])
    assert torch.equal(kernels.int8_linear(x, values, torch.ones(1)), expected)


def test_a_token_of_zeros_gives_the_bias_and_one_with_a_nan_gives_nan() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, float("nan")], [float("inf"), 1.0]])
    bias = torch.tensor([3.0])
    result = kernels.int8_linear(x, torch.ones(1, 2, dtype=torch.int8), torch.ones(1), bias)
    assert result[0].item() == 3.0
    assert result[1:].isnan().all()


def test_tokens_reach_127_and_ties_go_to_even() -> None:
    values, scales = quantize_tokens(torch.tensor([[254.0, 1.0, 3.0, -254.0]]))
    assert values.tolist() == [[127, 0, 2, -127]]
    assert scales.tolist() == [2.0]


@settings(max_examples=30, deadline=None)
@given(seed=seeds, group_size=st.sampled_from([32, 64, 128]), num_groups=st.integers(1, 3), with_zeros=st.booleans())
def test_int4_reads_the_even_input_from_the_low_four_bits(
    seed: int, group_size: int, num_groups: int, with_zeros: bool
) -> None:
    size = group_size * num_groups
    values = integers(seed, 0, 256, 3, size // 2)
    scales = noise(seed, 3, num_groups).half()
    zeros = integers(seed, 0, 16, 3, num_groups) if with_zeros else None
    x, bias = noise(seed + 1, 2, size), noise(seed + 2, 3)
    weight = np.zeros((3, size))
    for row in range(3):
        for column in range(size):
            byte, group = int(values[row, column // 2]), column // group_size
            value = byte >> 4 if column % 2 else byte & 15
            zero = int(zeros[row, group]) if zeros is not None else 8
            weight[row, column] = (value - zero) * float(scales[row, group])
    expected = torch.from_numpy(x.double().numpy() @ weight.T + bias.double().numpy()).float()
    torch.testing.assert_close(kernels.int4_linear(x, values, scales, zeros, bias), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("with_zeros", [False, True])
def test_int8_groups_subtract_the_zero_point_of_the_group(with_zeros: bool) -> None:
    values, scales = integers(0, 0, 256, 4, 64), noise(1, 4, 2)
    zeros = integers(2, 0, 256, 4, 2) if with_zeros else None
    x = noise(3, 5, 64)
    centred = values.double().numpy() - np.repeat(zeros.numpy() if zeros is not None else np.full((4, 2), 128.0), 32, 1)
    expected = torch.from_numpy(x.double().numpy() @ (centred * np.repeat(scales.numpy(), 32, 1)).T).float()
    torch.testing.assert_close(kernels.int8_groups_linear(x, values, scales, zeros), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_results_have_the_type_of_the_activations(dtype: torch.dtype) -> None:
    x, bias = noise(0, 2, 32).to(dtype), noise(1, 4).to(dtype)
    assert kernels.int8_linear(x, integers(0, 0, 9, 4, 32, dtype=torch.int8), torch.ones(4), bias).dtype == dtype
    assert kernels.int4_linear(x, integers(0, 0, 256, 4, 16), torch.ones(4, 1), None, bias).dtype == dtype
    assert kernels.int8_groups_linear(x, integers(0, 0, 256, 4, 32), torch.ones(4, 1), None, bias).dtype == dtype
