"""What the tests of the command line share: running a command in this process, and a small checkpoint."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from octavo.cli import main
from tests.checkpoints import make_checkpoint


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    exit_code: int
    out: str
    errors: list[str]


@pytest.fixture
def octavo(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run ``octavo`` with arguments and, on its standard input, a text."""

    def run(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        exit_code = main(arguments)
        out, err = capfd.readouterr()
        return Ran(exit_code, out, [line.removeprefix("octavo: error: ") for line in err.splitlines()])

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama with a tokenizer and a chat template."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "llama", "llama", tokenizer=True)
