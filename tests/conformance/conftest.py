"""One server for the tests of this directory: the model in the box, or a small random one where that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.config.schema import MODEL_IN_THE_BOX
from octavo.errors import ModelError
from octavo.models.hub import resolve_model
from tests.checkpoints import make_checkpoint
from tests.server_process import ServerProcess

MODEL_NAME = "tested-model"


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never ends an answer soon by itself."""
    return make_checkpoint(tmp_path_factory.mktemp("random") / "model", "llama", tokenizer=True, num_hidden_layers=2)


@pytest.fixture(scope="session")
def server(random_model: Path) -> Iterator[ServerProcess]:
    try:
        model = str(resolve_model(MODEL_IN_THE_BOX))
    except ModelError:
        model = str(random_model)
    with ServerProcess(
        model=model, served_model_name=[MODEL_NAME, "other-name"], kv_cache_memory_bytes=2**26
    ) as running:
        yield running
