"""Stored blocks become exactly the numbers that the gguf package computes."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from octavo.models.gguf import dequantize as module
from octavo.models.gguf.dequantize import dequantize
from octavo.models.gguf.tensor_types import TENSOR_TYPES, TensorType
from tests.gguf_files import Array, random_blocks

KINDS = {kind.name: GGMLQuantizationType(number) for number, kind in TENSOR_TYPES.items()}
PLAIN = ("F32", "F16", "BF16")


def stored(name: str, num_rows: int, row_size: int, seed: int = 0) -> tuple[Array, TensorType]:
    kind = next(kind for kind in TENSOR_TYPES.values() if kind.name == name)
    if name in PLAIN:
        numbers = np.random.default_rng(seed).standard_normal((num_rows, row_size), dtype=np.float32)
        return gguf.quants.quantize(numbers, KINDS[name]).view(np.uint8), kind
    return random_blocks(KINDS[name], num_rows, row_size // kind.block_size, seed), kind


def expected(rows: Array, name: str) -> Tensor:
    types = {"F32": np.float32, "F16": np.float16}
    return torch.from_numpy(gguf.quants.dequantize(rows.view(types.get(name, np.uint8)), KINDS[name]).copy())


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_sizes_of_blocks_are_those_of_ggml() -> None:
    sizes = {number: (kind.block_size, kind.block_bytes) for number, kind in TENSOR_TYPES.items()}
    assert sizes == {number: gguf.GGML_QUANT_SIZES[GGMLQuantizationType(number)] for number in TENSOR_TYPES}


@pytest.mark.parametrize("name", KINDS)
def test_numbers_are_those_of_the_gguf_package(name: str) -> None:
    rows, kind = stored(name, num_rows=5, row_size=768)
    ours = dequantize(torch.from_numpy(rows), kind, torch.float32)
    assert ours.shape == (5, 768)
    assert_equal(ours, expected(rows, name))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["F32", "Q8_0", "Q4_K"])
def test_other_types_are_rounded_once(name: str, dtype: torch.dtype) -> None:
    rows, kind = stored(name, num_rows=3, row_size=256)
    assert_equal(dequantize(torch.from_numpy(rows), kind, dtype), expected(rows, name).to(dtype))


@pytest.mark.parametrize("name", ["F16", "Q4_0", "Q6_K"])
def test_large_tensors_are_computed_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, kind = stored(name, num_rows=7, row_size=512)
    monkeypatch.setattr(module, "_ELEMENTS_AT_ONCE", 600)
    assert_equal(dequantize(torch.from_numpy(rows), kind, torch.float32), expected(rows, name))
