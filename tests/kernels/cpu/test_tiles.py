"""Products of tiles as the model of AMX computes them, against the order of operations in Intel's manual, in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from octavo.kernels.cpu import (
    PackedInt8GroupsWeight,
    PackedInt8Weight,
    int8_groups_linear,
    int8_linear,
    linear,
    native_status,
    pack,
)
from octavo.kernels.cpu.tile_check import fall_back_from_wrong_tiles

FEATURES_A_TILE = 32
MODEL = "amx_modelled"

pytestmark = pytest.mark.skipif(MODEL not in native_status().modelled_isas, reason="the model needs AVX-512")


@pytest.fixture(autouse=True)
def modelled(native: ModuleType) -> Iterator[str]:
    """The model, in use while the test runs; the best set without it."""
    before = native.active_isa()
    native.set_active_isa(MODEL)
    yield before
    native.set_active_isa(before)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def tdpbf16ps(x: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``x @ weight.T`` in the order of TDPBF16PS, for numbers of about one.

    A product of two bfloat16 numbers and its sum with a float32 number are then exact in float64, so that one rounding
    gives what a fused multiply-add gives.
    """
    sums = np.zeros((len(x), len(weight)), np.float32)
    for start in range(0, x.shape[1], FEATURES_A_TILE):
        parts = [np.zeros_like(sums), np.zeros_like(sums)]
        for k in range(start, min(start + FEATURES_A_TILE, x.shape[1])):
            product = x[:, k, None].astype(np.float64) * weight[None, :, k]
            parts[k % 2] = (product + parts[k % 2]).astype(np.float32)
        sums = sums + (parts[0] + parts[1])
    return sums


@pytest.mark.parametrize("num_tokens", [1, 16, 17, 32, 40])
@pytest.mark.parametrize("in_features", [1, 2, 7, 32, 33, 64, 131])
def test_bfloat16_sums_are_added_in_the_documented_order(num_tokens: int, in_features: int) -> None:
    x, weight = noise(0, num_tokens, in_features), noise(1, 45, in_features)
    expected = tdpbf16ps(x.float().numpy(), weight.float().numpy())
    result = linear(x.float(), pack(weight, rounds_activations=True))
    assert np.array_equal(result.numpy(), expected)


@pytest.mark.parametrize("num_tokens", [1, 33])
def test_subnormal_numbers_are_zero_on_the_way_in_and_out(num_tokens: int) -> None:
    least_normal = 2.0**-126
    x = torch.tensor([[1.0, least_normal / 2, least_normal, least_normal]]).repeat(num_tokens, 1)
    weight = torch.eye(4).mul(torch.tensor([1.0, 1.0, 1.0, 0.5])).bfloat16()
    result = linear(x, pack(weight, rounds_activations=True))
    assert torch.equal(result, torch.tensor([[1.0, 0.0, least_normal, 0.0]]).expand(num_tokens, 4))


@pytest.mark.parametrize("num_tokens", [9, 16, 17, 40])
@pytest.mark.parametrize("in_features", [16, 48, 64, 80, 272])
def test_whole_numbers_are_those_of_vectors_whatever_is_left_over_of_a_tile(
    native: ModuleType, modelled: str, num_tokens: int, in_features: int
) -> None:
    generator = torch.Generator().manual_seed(in_features)
    x = torch.randn(num_tokens, in_features, generator=generator)
    values = torch.randint(-128, 128, (70, in_features), dtype=torch.int8, generator=generator)
    whole = PackedInt8Weight(70, in_features)
    whole.fill(0, values, torch.rand(70, generator=generator))
    groups = PackedInt8GroupsWeight(70, in_features, group_size=16)
    groups.fill(0, values.view(torch.uint8), torch.rand(70, in_features // 16, generator=generator).half())
    by_tiles = int8_linear(x, whole), int8_groups_linear(x, groups)
    native.set_active_isa(modelled)
    assert torch.equal(by_tiles[0], int8_linear(x, whole))
    assert torch.equal(by_tiles[1], int8_groups_linear(x, groups))


def test_tiles_that_agree_with_vectors_stay_in_use(native: ModuleType, modelled: str) -> None:
    fall_back_from_wrong_tiles(native, modelled)
    assert native.active_isa() == MODEL


@pytest.mark.parametrize("product", ["int8_linear", "linear"])
def test_tiles_that_are_wrong_are_left(
    native: ModuleType, modelled: str, product: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong:
        """The module on a machine whose tiles forget the last row."""

        def __getattr__(self, name: str) -> Any:
            return getattr(native, name)

    def without_last_row(weight: object, *arguments: int) -> None:
        place = {"int8_linear": 3, "linear": 1}[product]
        num_rows = arguments[place] - (native.active_isa() == MODEL)
        getattr(native, product)(weight, *arguments[:place], num_rows, *arguments[place + 1 :])

    wrong = Wrong()
    setattr(wrong, product, without_last_row)
    fall_back_from_wrong_tiles(cast(ModuleType, wrong), modelled)
    assert native.active_isa() == modelled
    assert caplog.messages == [f"{MODEL} gives wrong products on this machine: the CPU kernels use {modelled}"]
