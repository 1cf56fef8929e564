"""Rounded weights stay within the bounds of their formats, whatever the weights are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavo.errors import ModelError
from octavo.models.layers.parameters import Placement
from octavo.models.quantization.base import Dense, Int4Weight
from octavo.models.quantization.rounding import RoundedInt4, RoundedInt8, quantize_int4, quantize_int8

META = Placement(torch.float32, torch.device("meta"), linear_format=Dense(), head_format=Dense())

seeds = st.integers(0, 2**31)
outliers = st.sampled_from([0.0, 5.0, 50.0])


def random_weight(seed: int, rows: int, columns: int, outlier: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * 0.02
    weight[0, columns // 2] += 0.02 * outlier
    weight[-1] = 0
    return weight


@settings(max_examples=40, deadline=None)
@given(seed=seeds, columns=st.integers(1, 200), outlier=outliers)
def test_int8_layer_is_off_by_half_a_step_of_weights_and_of_tokens(seed: int, columns: int, outlier: float) -> None:
    weight = random_weight(seed, 4, columns, outlier)
    x = torch.randn(3, columns, generator=torch.Generator().manual_seed(seed))
    rounded = quantize_int8(weight)
    steps = weight.abs().amax(1) / 127
    assert ((rounded.dequantize() - weight).abs() <= 0.5001 * steps.unsqueeze(1)).all()
    token_steps = x.abs().amax(1) / 127
    bound = 0.5 * torch.outer(x.abs().sum(1), steps) + 0.5 * torch.outer(token_steps, rounded.dequantize().abs().sum(1))
    assert ((rounded(x) - x @ weight.T).abs() <= 1.001 * bound + 1e-6).all()


@settings(max_examples=40, deadline=None)
@given(seed=seeds, group_size=st.sampled_from([32, 64, 128]), num_groups=st.integers(1, 3), outlier=outliers)
def test_int4_layer_is_off_by_at_most_an_eighth_of_each_groups_largest(
    seed: int, group_size: int, num_groups: int, outlier: float
) -> None:
    weight = random_weight(seed, 4, group_size * num_groups, outlier)
    x = torch.randn(3, group_size * num_groups, generator=torch.Generator().manual_seed(seed))
    rounded = quantize_int4(weight, group_size)
    # One step for what is cut off at 7 of 8, half a step for the rest; by least squares the sum only gets smaller.
    furthest = weight.view(4, num_groups, group_size).abs().amax(2)
    lengths = x.view(3, num_groups, group_size).norm(dim=2)
    bound = lengths @ (furthest / 8 * group_size**0.5).T
    assert ((rounded(x) - x @ weight.T).abs() <= 1.001 * bound + 1e-6).all()


@pytest.mark.parametrize(("group_size", "most"), [(32, 0.082), (64, 0.091), (128, 0.099)])
def test_searched_scales_beat_rounding_to_the_nearest(group_size: int, most: float) -> None:
    weight = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    groups = weight.view(256, -1, group_size)
    step = groups.abs().amax(2, keepdim=True) / 7
    nearest = ((groups / step).round() * step).view_as(weight)
    searched = quantize_int4(weight, group_size).dequantize()
    error = (searched - weight).norm() / weight.norm()
    assert error < most
    assert error < 0.86 * (nearest - weight).norm() / weight.norm()


def test_int4_keeps_what_it_can_represent() -> None:
    values = torch.randint(-8, 8, (8, 128), generator=torch.Generator().manual_seed(0))
    values[:, ::32] = -8
    weight = values * 2.0**-6
    assert torch.equal(quantize_int4(weight, 32).dequantize(), weight)
    assert torch.equal(quantize_int4(-weight, 32).dequantize(), -weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_large_matrix_is_quantised_in_parts_as_a_whole(dtype: torch.dtype) -> None:
    weight = torch.randn(700, 1024, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(quantize_int8(weight).values[300:], quantize_int8(weight[300:]).values)
    assert torch.equal(quantize_int4(weight, 64).values[300:], quantize_int4(weight[300:], 64).values)


@pytest.mark.parametrize(("input_size", "expected"), [(512, 64), (192, 64), (96, 32)])
def test_int4_takes_smaller_groups_where_its_own_do_not_fit(input_size: int, expected: int) -> None:
    weight = RoundedInt4(64).allocate(8, input_size, META)
    assert isinstance(weight, Int4Weight)
    assert weight.group_size == expected


def test_int4_of_an_odd_shape_is_refused_with_the_way_out() -> None:
    with pytest.raises(ModelError, match=r"one with 80 inputs\. Use --quantization int8"):
        RoundedInt4().allocate(8, 80, META)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("linear_format", [RoundedInt8(), RoundedInt4()])
def test_weights_that_are_no_numbers_are_refused_by_name(
    linear_format: RoundedInt8 | RoundedInt4, value: float
) -> None:
    (declared,) = linear_format.checkpoint_tensors("layer.up_proj", 2, 64, lambda rows: None)
    weight = torch.ones(2, 64)
    weight[1, 3] = value
    with pytest.raises(ModelError, match=r"layer\.up_proj\.weight has NaN or infinite entries"):
        declared.take(weight)
