"""A small base model with a tokenizer, and adapters of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lora_adapters import make_adapter


@pytest.fixture(scope="session")
def adapter(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of ``checkpoint`` with rank 4 on all linear layers."""
    return make_adapter(tmp_path_factory.mktemp("adapter") / "first", checkpoint, seed=1)


@pytest.fixture(scope="session")
def other_adapter(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one."""
    return make_adapter(tmp_path_factory.mktemp("adapter") / "other", checkpoint, seed=2)
