"""GPTQ and AWQ tensors give back exactly the matrix that was packed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavo.errors import ModelError
from octavo.models.layers.parameters import Placement
from octavo.models.quantization.base import Dense, InputOrderWeight, Int4Weight, Int8GroupsWeight, LinearWeight
from octavo.models.quantization.packed import Awq, Gptq, PackedFormat
from tests.models.quantization.packers import Integers, awq_tensors, gptq_tensors, random_integers

CPU = Placement(torch.float32, torch.device("cpu"), linear_format=Dense(), head_format=Dense())


def load(
    linear_format: PackedFormat, matrix: Integers, tensors: dict[str, Tensor], reverse: bool = False
) -> LinearWeight:
    outputs, inputs = matrix.values.shape
    weight = linear_format.allocate(outputs, inputs, CPU)
    declared = {
        tensor.name.removeprefix("up_proj."): tensor
        for tensor in linear_format.checkpoint_tensors(
            "up_proj", outputs, inputs, lambda rows: weight.copy_rows(0, rows)
        )
    }
    for part, tensor in sorted(tensors.items(), reverse=reverse):
        if part in declared:
            assert tuple(tensor.shape) == declared[part].shape
            assert tensor.dtype in declared[part].dtypes
            declared[part].take(tensor)
    return weight


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    outputs=st.integers(1, 3).map(lambda n: 8 * n),
    inputs=st.sampled_from([32, 64, 96, 160, 256]),
    bits=st.sampled_from([4, 8]),
    group_size=st.sampled_from([None, 32, 64, 128, 256]),
    shuffled=st.booleans(),
    symmetric=st.booleans(),
    zero_offset=st.sampled_from([0, 1]),
    reverse=st.booleans(),
)
def test_gptq_is_unpacked_exactly(
    seed: int,
    outputs: int,
    inputs: int,
    bits: int,
    group_size: int | None,
    shuffled: bool,
    symmetric: bool,
    zero_offset: int,
    reverse: bool,
) -> None:
    matrix = random_integers(
        seed, outputs, inputs, bits=bits, group_size=group_size, shuffled=shuffled, symmetric=symmetric
    )
    linear_format = Gptq(bits, group_size, zero_offset=zero_offset, has_input_order=shuffled)
    weight = load(linear_format, matrix, gptq_tensors(matrix, zero_offset=zero_offset), reverse)
    assert torch.equal(weight.dequantize(), matrix.dense())
    held = weight.weight if isinstance(weight, InputOrderWeight) else weight
    assert isinstance(held, Int4Weight if bits == 4 else Int8GroupsWeight)
    assert held.group_size in (32, 64, 128)
    x = torch.randn(3, inputs, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(weight(x), x @ matrix.dense().T, atol=1e-4, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    outputs=st.integers(1, 3).map(lambda n: 8 * n),
    inputs=st.sampled_from([32, 64, 96, 256]),
    group_size=st.sampled_from([None, 32, 64, 128]),
)
def test_awq_is_unpacked_exactly(seed: int, outputs: int, inputs: int, group_size: int | None) -> None:
    matrix = random_integers(seed, outputs, inputs, group_size=group_size)
    weight = load(Awq(4, group_size), matrix, awq_tensors(matrix))
    assert isinstance(weight, Int4Weight)
    assert torch.equal(weight.dequantize(), matrix.dense())


@pytest.mark.parametrize("group_index", [torch.zeros(64), torch.arange(64) // 32])
def test_group_index_without_an_order_may_be_there_or_not(group_index: Tensor) -> None:
    matrix = random_integers(0, 8, 64)
    tensors = gptq_tensors(matrix) | {"g_idx": group_index.int()}
    assert torch.equal(load(Gptq(4, 32), matrix, tensors).dequantize(), matrix.dense())
    del tensors["g_idx"]
    assert torch.equal(load(Gptq(4, 32), matrix, tensors).dequantize(), matrix.dense())


def test_order_that_the_config_denies_is_refused() -> None:
    matrix = random_integers(0, 8, 64, shuffled=True)
    with pytest.raises(ModelError, match=r"up_proj\.g_idx orders the inputs, but .* desc_act=false"):
        load(Gptq(4, 32), matrix, gptq_tensors(matrix))


def test_groups_of_unequal_size_are_refused() -> None:
    matrix = random_integers(0, 8, 64, shuffled=True)
    tensors = gptq_tensors(matrix) | {"g_idx": torch.zeros(64, dtype=torch.int32)}
    with pytest.raises(ModelError, match=r"up_proj\.g_idx does not share 64 inputs out to groups of 32"):
        load(Gptq(4, 32, has_input_order=True), matrix, tensors)


def test_shapes_that_do_not_fill_words_or_groups_are_refused() -> None:
    with pytest.raises(ModelError, match="up_proj has 64 inputs and 12 outputs, which cannot be packed 8 a word"):
        list(Awq(4, 32).checkpoint_tensors("up_proj", 12, 64, lambda rows: None))
    with pytest.raises(ModelError, match="linear layers with 48 inputs in groups of 48; both must be multiples of 32"):
        Gptq(4, None).allocate(8, 48, CPU)
