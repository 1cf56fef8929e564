"""Weights of small layers share huge pages: each keeps its own numbers as others come and go."""

from __future__ import annotations

import gc

import pytest
import torch

from octavo.kernels import cpu

pytestmark = pytest.mark.skipif(not cpu.has_native(), reason="no native kernels")

GROUP_SIZE = 64
# Rows of 128 inputs: too small to share, small, around the edges of a page, and with pages of its own.
SIZES = [32, 1024, 8_192, 28_000, 32_768, 131_072]


def random_weight(num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.randint(0, 256, (num_rows, GROUP_SIZE), dtype=torch.uint8)
    return values, torch.rand(num_rows, 2).half()


def test_weights_keep_their_numbers_while_others_are_freed() -> None:
    kept = []
    for round_number in range(3):
        parts = [random_weight(num_rows) for num_rows in SIZES]
        packed = [cpu.pack_int4(values, scales) for values, scales in parts]
        kept.append((parts[round_number::2], packed[round_number::2]))
        del parts, packed
        gc.collect()
    for parts, packed in kept:
        for (values, scales), weight in zip(parts, packed, strict=True):
            got_values, got_scales, _ = weight.unpack()
            assert torch.equal(got_values, values)
            assert torch.equal(got_scales, scales)


def test_a_weight_that_nothing_was_filled_into_is_zero() -> None:
    for num_rows in SIZES:
        for _ in range(3):
            cpu.pack_int4(*random_weight(num_rows))
            values, scales, _ = cpu.PackedInt4Weight(num_rows, 2 * GROUP_SIZE, group_size=GROUP_SIZE).unpack()
            assert not values.any()
            assert not scales.any()
