from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import make_checkpoint


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model so small that steps cost next to nothing, and that never ends an answer soon by itself."""
    return make_checkpoint(
        tmp_path_factory.mktemp("random") / "model",
        "llama",
        tokenizer=True,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
