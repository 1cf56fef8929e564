"""The type of the KV cache: what it takes, and that answers hardly change with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from octavo import LLM, SamplingParams
from octavo.errors import ConfigError
from tests.checkpoints import make_checkpoint

PROMPTS = [{"prompt_token_ids": list(range(3, 3 + length))} for length in (40, 7)]
LOGPROBS = SamplingParams(temperature=0, max_tokens=1, logprobs=5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("kv"), "llama", tokenizer=True)


def engine(checkpoint: Path, kv_cache_dtype: str, **settings: object) -> LLM:
    return LLM(
        str(checkpoint),
        dtype="float32",
        kv_cache_dtype=kv_cache_dtype,
        kv_cache_memory_bytes=2**20,
        max_model_len=64,
        **settings,
    )


def caches(llm: LLM) -> list[object]:
    return llm._core.runner.kv_caches


@pytest.mark.parametrize(("name", "bytes_per_head"), [("float32", 64), ("bfloat16", 32), ("float16", 32), ("int8", 20)])
def test_a_cache_takes_what_its_type_takes(checkpoint: Path, name: str, bytes_per_head: int) -> None:
    llm = engine(checkpoint, name)
    (first, *_) = caches(llm)
    assert first.key.dtype is getattr(torch, name)
    config = llm.model_config
    assert config.head_dim == 16
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * bytes_per_head
    num_bytes = sum(cache.num_bytes for cache in caches(llm))
    assert num_bytes == first.key.shape[0] * llm.config.block_size * per_token
    assert 2**20 - llm.config.block_size * per_token < num_bytes <= 2**20


@pytest.mark.parametrize("name", ["bfloat16", "float16", "int8"])
@pytest.mark.parametrize("max_num_batched_tokens", [2048, 8])  # in chunks, later ones read what earlier ones wrote
def test_rounded_keys_and_values_move_probabilities_a_little(
    checkpoint: Path, name: str, max_num_batched_tokens: int
) -> None:
    exact, rounded = (
        engine(checkpoint, dtype, max_num_batched_tokens=max_num_batched_tokens, max_num_seqs=4).generate(
            PROMPTS, LOGPROBS
        )
        for dtype in ("float32", name)
    )
    differences = []
    for ours, theirs in zip(rounded, exact, strict=True):
        (got,), (expected,) = ours.outputs[0].logprobs, theirs.outputs[0].logprobs
        shared = got.keys() & expected.keys()
        assert len(shared) >= 3
        differences += [abs(got[token].logprob - expected[token].logprob) for token in shared]
    assert 0 < max(differences) < 0.3


def test_an_unknown_type_is_refused_with_the_known_ones(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"kv_cache_dtype.*'fp8'.*auto, float32, bfloat16, float16, int8"):
        engine(checkpoint, "fp8")
