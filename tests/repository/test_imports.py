"""What must stay light does: ``import octavo`` and the command line's help load no heavy library and answer at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

import octavo

HEAVY = {"torch", "transformers", "fastapi", "uvicorn", "pydantic", "rich", "httpx", "numpy", "tokenizers"}
# The aim is 0.3 s on a machine with nothing else to do; a busy one gets more.
TIME_LIMIT_S = 1.0


def loaded_by(program: str) -> set[str]:
    """Return the top-level packages that a program has loaded in a fresh process when it ends."""
    report = "\nimport json as j, sys as s; print(j.dumps(sorted({name.partition('.')[0] for name in s.modules})))"
    done = subprocess.run([sys.executable, "-c", program + report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_octavo_is_light():
    assert not HEAVY & loaded_by("import octavo")


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_are_light(flag):
    assert not HEAVY & loaded_by(f"from octavo.cli import main; main([{flag!r}])")


@pytest.mark.parametrize("command", ["serve", "chat", "generate"])
def test_help_of_a_command_loads_neither_torch_nor_a_web_framework(command):
    loaded = loaded_by(f"from octavo.cli import main; main([{command!r}, '--help'])")
    assert not {"torch", "transformers", "fastapi", "uvicorn", "tokenizers"} & loaded


@pytest.mark.parametrize(
    "program",
    [
        "from octavo import AsyncLLM, SamplingParams",
        "from octavo import LLM",
        "import octavo.api.app, octavo.api.lifecycle",
    ],
)
def test_what_the_api_process_imports_loads_no_torch(program):
    assert not {"torch", "transformers"} & loaded_by(program)


@pytest.mark.parametrize(
    "arguments", [["-m", "octavo", "--help"], ["-m", "octavo", "--version"], ["-c", "import octavo"]]
)
def test_they_answer_at_once(arguments):
    took_s = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        took_s.append(time.monotonic() - started)
    assert min(took_s) < TIME_LIMIT_S


def test_names_of_the_package_are_found_when_they_are_used():
    assert set(octavo.__all__) <= set(dir(octavo))
    assert [name for name in octavo.__all__ if getattr(octavo, name) is None] == []
    with pytest.raises(AttributeError, match="Nothing"):
        octavo.Nothing  # noqa: B018
