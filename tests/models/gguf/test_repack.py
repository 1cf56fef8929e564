"""Repacked blocks against the dequantisation of the ``gguf`` package."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType

from octavo.models.gguf.repack import repack
from octavo.models.gguf.tensor_types import TENSOR_TYPES
from octavo.models.quantization.base import GroupedWeight
from tests.gguf_files import random_blocks

BLOCK_TYPES = {kind.name: kind for kind in TENSOR_TYPES.values() if kind.block_size > 1}
# Significant bits of float16: a product of a scale and a small integer is rounded to them.
HALF_ULP = 2.0**-11


def repacked(
    name: str, num_rows: int = 7, blocks_a_row: int = 3, scale: float = 1.0
) -> tuple[GroupedWeight, torch.Tensor]:
    blocks = random_blocks(GGMLQuantizationType[name], num_rows, blocks_a_row, seed=3, scale=scale)
    expected = gguf.quants.dequantize(blocks, GGMLQuantizationType[name]).astype(np.float64)
    return repack(torch.from_numpy(blocks), BLOCK_TYPES[name]), torch.from_numpy(expected)


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_types_whose_groups_have_a_scale_of_their_own_keep_every_number(name: str) -> None:
    weight, expected = repacked(name)
    torch.testing.assert_close(weight.dequantize().double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["Q4_K", "Q5_K", "Q6_K"])
def test_types_with_scales_of_scales_are_off_by_one_rounding_of_scale_and_offset(name: str) -> None:
    weight, expected = repacked(name)
    assert weight.scales.dtype == torch.float16
    groups = expected.view(*weight.scales.shape, -1)
    offsets = torch.zeros_like(weight.scales) if weight.offsets is None else weight.offsets
    # What is multiplied with the scale, without the offset, and the offset: each is off by its own rounding.
    products = (groups + offsets.double().unsqueeze(2)).abs()
    bound = (products + offsets.double().abs().unsqueeze(2)) * HALF_ULP * 1.01 + 1e-6
    assert ((weight.dequantize().double().view_as(groups) - groups).abs() <= bound).all()


def test_rows_that_are_repacked_in_several_goes_are_the_same() -> None:
    blocks = torch.from_numpy(random_blocks(GGMLQuantizationType.Q6_K, 5000, 1))
    whole = repack(blocks, BLOCK_TYPES["Q6_K"])
    for rows in (slice(0, 3), slice(4094, 4098), slice(4990, 5000)):
        part = repack(blocks[rows], BLOCK_TYPES["Q6_K"])
        assert torch.equal(whole.dequantize()[rows], part.dequantize())


@pytest.mark.parametrize(
    ("name", "bits"),
    [("Q8_0", 8.5), ("Q4_0", 4.5), ("Q4_1", 5), ("Q5_0", 8.5), ("Q5_1", 9), ("Q4_K", 5), ("Q5_K", 9), ("Q6_K", 9)],
)
def test_a_number_takes_the_bits_that_the_documents_state(name: str, bits: float) -> None:
    weight, expected = repacked(name)
    assert weight.num_bytes * 8 / expected.numel() == bits
