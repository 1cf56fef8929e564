"""What sequences take in the KV cache: published figures, windows, and shares of several GPUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.plan.families import read_model_shape
from octavo.plan.kv_cache import KVCacheLayout
from octavo.plan.memory import kv_bytes_per_token
from tests.plan import published_models as published

SIXTEEN_BIT = KVCacheLayout(bytes_per_element=2)
FREEING = KVCacheLayout(bytes_per_element=2, frees_outside_window=True)


@pytest.mark.parametrize(
    ("config", "kib"),
    [
        # 2 (keys and values) x layers x key heads x dimensions x 2 bytes, as model cards and vLLM's logs have it.
        (published.LLAMA_31_8B, 128),
        (published.LLAMA_31_70B, 320),
        (published.LLAMA_2_7B, 512),
        (published.QWEN3_06B, 112),
        (published.QWEN3_8B, 144),
        (published.QWEN3_32B, 256),
        (published.QWEN3_30B_A3B, 96),
        (published.MISTRAL_7B_V01, 128),
        # 61 layers of 576 numbers: "70.272 KB" in "Insights into DeepSeek-V3", arXiv:2505.09343, table 1.
        (published.DEEPSEEK_V3, 70_272 / 1024),
    ],
)
def test_bytes_of_a_token_are_those_that_are_known(config: dict, kib: float) -> None:
    assert SIXTEEN_BIT.bytes_per_token(read_model_shape(config)) == kib * 1024


def test_bytes_of_a_token_are_those_that_the_engine_counts() -> None:
    shape = read_model_shape(published.QWEN3_8B)
    assert SIXTEEN_BIT.bytes_per_token(shape) == kv_bytes_per_token(36, 8, 128, 2)


@given(num_tokens=st.integers(1, 5000))
def test_sequence_takes_whole_blocks(num_tokens: int) -> None:
    shape = read_model_shape(published.LLAMA_31_8B)
    assert SIXTEEN_BIT.bytes_of_sequence(shape, num_tokens) == -(-num_tokens // 16) * 16 * 131_072


def test_layers_with_a_window_keep_no_more_than_it_where_the_engine_frees_the_rest() -> None:
    shape = read_model_shape(published.GPT_OSS_120B)
    per_layer = 2 * 8 * 64 * 2
    assert shape.windows == {128: 18, None: 18}
    assert FREEING.bytes_of_sequence(shape, 10_000) == per_layer * 18 * (10_000 + 128)
    assert SIXTEEN_BIT.bytes_of_sequence(shape, 10_000) == per_layer * 36 * 10_000
    assert FREEING.bytes_of_sequence(shape, 96) == SIXTEEN_BIT.bytes_of_sequence(shape, 96)


@pytest.mark.parametrize(("size", "heads"), [(1, 8), (2, 4), (8, 1), (16, 1)])
def test_gpus_share_key_heads_and_copy_them_where_there_are_too_few(size: int, heads: int) -> None:
    layout = KVCacheLayout(bytes_per_element=2, tensor_parallel_size=size)
    assert layout.bytes_per_token(read_model_shape(published.LLAMA_31_70B)) == 2 * 80 * heads * 128 * 2


def test_latent_cache_is_copied_to_all_gpus() -> None:
    layout = KVCacheLayout(bytes_per_element=2, tensor_parallel_size=8)
    assert layout.bytes_per_token(read_model_shape(published.DEEPSEEK_V3)) == 70_272


@given(num_bytes=st.integers(0, 2**36), config=st.sampled_from([published.GPT_OSS_20B, published.QWEN3_06B]))
def test_longest_sequence_fits_and_one_more_block_does_not(num_bytes: int, config: dict) -> None:
    shape = read_model_shape(config)
    longest = FREEING.longest_sequence(shape, num_bytes, shape.max_model_len)
    assert longest == 0 or FREEING.bytes_of_sequence(shape, longest) <= num_bytes
    assert longest == shape.max_model_len or FREEING.bytes_of_sequence(shape, longest + 1) > num_bytes
