"""Bytes of weights, plain and packed: against published sizes of checkpoints and against packing by hand."""

from __future__ import annotations

import math

import pytest

from octavo.errors import ConfigError
from octavo.plan.families import read_model_shape
from octavo.plan.model_shape import Linear
from octavo.plan.weights import QUANTIZATIONS, checkpoint_quantization, quantization_named, weight_bytes
from tests.plan import published_models as published

MATRIX = Linear(in_features=256, out_features=100)


@pytest.mark.parametrize(
    ("config", "dtype", "gigabytes"),
    [
        (published.LLAMA_31_8B, "bfloat16", 16.06),
        (published.LLAMA_31_8B, "float32", 32.12),
        (published.LLAMA_31_70B, "bfloat16", 141.11),
        (published.QWEN3_8B, "bfloat16", 16.38),
        (published.MIXTRAL_8X7B, "bfloat16", 93.41),
    ],
)
def test_plain_weights_are_as_large_as_the_files_of_the_hub(config: dict, dtype: str, gigabytes: float) -> None:
    assert weight_bytes(read_model_shape(config), dtype) / 1e9 == pytest.approx(gigabytes, abs=0.005)


@pytest.mark.parametrize(("config", "gib"), [(published.GPT_OSS_120B, 60.8), (published.GPT_OSS_20B, 12.8)])
def test_gpt_oss_is_as_large_as_its_model_card_says(config: dict, gib: float) -> None:
    # arXiv:2508.10925, table 1: checkpoint size 60.8 GiB and 12.8 GiB.
    shape = read_model_shape(config)
    assert weight_bytes(shape, "bfloat16", checkpoint_quantization(shape)) / 2**30 == pytest.approx(gib, abs=0.05)


@pytest.mark.parametrize(
    ("name", "num_bytes"),
    [
        ("fp8", 256 * 100 + 100 * 4),
        ("int8", 256 * 100 + 100 * 4),
        ("int4", 256 * 100 / 2 + 100 * 4 * 2),
        ("awq", 256 * 100 / 2 + 100 * 2 * (2 + 0.5)),
        ("gptq", 256 * 100 / 2 + 100 * 2 * (2 + 0.5)),
        ("mxfp4", 256 * 100 / 2 + 100 * 8),
        ("nvfp4", 256 * 100 / 2 + 100 * 16),
    ],
)
def test_packed_matrix_has_its_scales(name: str, num_bytes: float) -> None:
    assert QUANTIZATIONS[name].num_bytes(MATRIX) == math.ceil(num_bytes)


def test_embeddings_head_and_norms_stay_plain() -> None:
    shape = read_model_shape(published.LLAMA_31_8B)
    layers = 32 * (4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14_336)
    outputs = 32 * (4096 + 2 * 1024 + 4096 + 2 * 14_336 + 4096)
    rest = 2 * 128_256 * 4096 + (2 * 32 + 1) * 4096
    assert weight_bytes(shape, "bfloat16", QUANTIZATIONS["fp8"]) == layers + 4 * outputs + 2 * rest


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 256 * 100 / 2 + 100 * 2 * 2.5),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 256 * 100 + 100 * 3),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 256 * 100 + 2 * 1 * 4),
        ({"quant_method": "fp8"}, 256 * 100 + 100 * 4),
    ],
)
def test_checkpoint_says_how_it_is_packed(config: dict, expected: float) -> None:
    shape = read_model_shape({**published.LLAMA_31_8B, "quantization_config": config})
    quantization = checkpoint_quantization(shape)
    assert quantization is not None
    assert quantization.num_bytes(MATRIX) == expected


def test_plain_checkpoint_is_not_packed() -> None:
    assert checkpoint_quantization(read_model_shape(published.LLAMA_31_8B)) is None


def test_unknown_methods_are_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"'fp9' is not known; known are fp8, int8, .*Did you mean fp8\?"):
        quantization_named("fp9")
    shape = read_model_shape({**published.LLAMA_31_8B, "quantization_config": {"quant_method": "hqq"}})
    with pytest.raises(ConfigError, match=r"quantized with 'hqq'.*awq, fp8, gptq and mxfp4"):
        checkpoint_quantization(shape)
