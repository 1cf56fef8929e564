"""What the documents say must be true: commands and flags exist, examples parse, messages are the printed ones."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from octavo.cli.app import COMMANDS, LazyGroup
from octavo.cli.bench import BenchGroup
from octavo.config import ServerConfig
from octavo.config.fields import settings_of
from octavo.config.sources import load_config
from octavo.config.vllm import NOT_YET

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
GUIDES = [ROOT / "README.md", ROOT / "docs/quickstart.md"]
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def blocks(path: Path, language: str) -> list[str]:
    """Return the code blocks of a language in a document."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shell_commands(path: Path) -> list[list[str]]:
    """Return all commands in the shell blocks of a document, as lists of words."""
    lines = [line for block in blocks(path, "bash") for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [command for command in words if command]


def flags_of(words: Sequence[str]) -> set[str]:
    """Return the flags of the one of Octavo's commands that the words call: ``["bench", "serve", …]``."""
    built = LazyGroup(name="octavo").get_command(None, words[0])
    if isinstance(built, LazyGroup):
        built = built.get_command(None, words[1])
    return {name for param in built.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}


def all_flags() -> set[str]:
    """Return every flag of every command."""
    top = LazyGroup(name="octavo")
    names = [[name] for name in COMMANDS if not isinstance(top.get_command(None, name), LazyGroup)]
    names += [["bench", name] for name in BenchGroup.summaries]
    return {"--version", "--verbose", "--install-completion", "--show-completion"}.union(*map(flags_of, names))


OCTAVO_COMMANDS = [
    pytest.param(command, id=f"{path.name}: {' '.join(command)}")
    for path in DOCUMENTS
    for command in shell_commands(path)
    if command[0] == "octavo" and command[1] in COMMANDS
]
PYTHON_EXAMPLES = [
    pytest.param(block, id=f"{path.name}-{i}") for path in GUIDES for i, block in enumerate(blocks(path, "python"))
]


def test_the_guides_use_every_command():
    assert {param.values[0][1] for param in OCTAVO_COMMANDS} == set(COMMANDS)


@pytest.mark.parametrize("command", OCTAVO_COMMANDS)
def test_flags_of_documented_commands_exist(command):
    used = {word.partition("=")[0] for word in command[2:] if word.startswith("--")}
    assert used <= flags_of(command[1:])


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_flag_that_a_document_names_exists(path):
    text = path.read_text(encoding="utf-8")
    without_examples_of_errors = re.sub(r"^\$ .*\n|^octavo: error: .*\n", "", text, flags=re.MULTILINE)
    named = set(re.findall(r"`[^`\n]*`", without_examples_of_errors))
    flags = {
        flag for code in named if "octavo" in code or code.startswith("`--") for flag in re.findall(r"--[\w-]+", code)
    }
    assert flags <= all_flags()


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_documented_make_targets_exist(path):
    for command in shell_commands(path):
        if command[0] == "make":
            done = subprocess.run(["make", "-n", command[1]], cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", PYTHON_EXAMPLES)
def test_python_examples_compile(example):
    compile(example, "example", "exec")


@pytest.mark.parametrize("path", GUIDES, ids=["README", "quickstart"])
def test_the_curl_line_sends_json_to_the_default_address(path):
    (command,) = [command for command in shell_commands(path) if command[0] == "curl"]
    config = ServerConfig()
    assert command[1] == f"http://{config.host}:{config.port}/v1/chat/completions"
    assert json.loads(command[command.index("-d") + 1])["messages"]


def test_the_example_of_a_configuration_file_is_valid(tmp_path):
    (text,) = blocks(ROOT / "docs/quickstart.md", "yaml")
    file = tmp_path / "server.yaml"
    file.write_text(text, encoding="utf-8")
    config = load_config(ServerConfig, {}, config_file=file, environ={})
    assert config.model_dump(exclude_unset=True).keys() == {key.replace("-", "_") for key in yaml.safe_load(text)}


def test_documented_messages_are_the_ones_that_are_printed():
    (transcript,) = blocks(ROOT / "docs/quickstart.md", "console")
    for example in transcript.split("$ ")[1:]:
        command, _, shown = example.partition("\n")
        *assignments, arguments = re.split(r"\s*octavo ", command, maxsplit=1)
        environ = {**os.environ, **dict(item.split("=", 1) for item in assignments)}
        done = subprocess.run(
            [sys.executable, "-m", "octavo", *arguments.split()],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == shown
        assert done.returncode == 2


def test_what_does_not_exist_yet_is_not_documented_as_if_it_did():
    settings = settings_of(ServerConfig)
    for path in GUIDES:
        for name in re.findall(r"`--([\w-]+)", path.read_text(encoding="utf-8")):
            assert name.replace("-", "_") not in NOT_YET - settings.keys()
