"""A draft model that does not suit is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo import LLM
from octavo.errors import ConfigError, ModelError
from tests.checkpoints import make_checkpoint


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"vocab_size": 400}, "has 400 token ids, but"),
        ({"max_position_embeddings": 64}, "was made for 64 tokens, less than max_model_len=128"),
    ],
)
def test_other_tokens_and_shorter_contexts_are_refused(
    checkpoint: Path, tmp_path: Path, overrides: dict[str, int], message: str
):
    smaller = make_checkpoint(tmp_path / "draft", "llama", num_hidden_layers=1, **overrides)
    with pytest.raises(ConfigError, match=message):
        LLM(str(checkpoint), max_model_len=128, speculative_config={"model": str(smaller)})


def test_a_model_that_is_not_there_is_named(checkpoint: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="nowhere"):
        LLM(str(checkpoint), max_model_len=128, speculative_config={"model": str(tmp_path / "nowhere")})


def test_both_caches_share_the_memory(checkpoint: Path):
    alone = LLM(str(checkpoint), max_model_len=128, kv_cache_memory_bytes="4MiB")
    paired = LLM(
        str(checkpoint), max_model_len=128, kv_cache_memory_bytes="4MiB", speculative_config={"model": str(checkpoint)}
    )
    assert paired._core.stats().num_blocks == pytest.approx(alone._core.stats().num_blocks / 2, abs=1)
