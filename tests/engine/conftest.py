"""Small random models for the tests of this directory, and one thread for each: threads that wait for each other cost
more than they bring on a busy machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from octavo.text import Tokenizer
from tests.checkpoints import make_checkpoint

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with 320 token ids, two layers, 1,024 tokens of context, a byte-level tokenizer and a ChatML template."""
    return make_checkpoint(tmp_path_factory.mktemp("model") / "llama", "llama", tokenizer=True, num_hidden_layers=2)


@pytest.fixture(scope="session")
def tokenizer(checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_directory(checkpoint)


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Tell whether a process runs; one that has ended but was not waited for does not."""

    def check(pid: int) -> bool:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return False
        return fields[0] != "Z"

    return check
