"""``octavo serve``: vLLM's spellings are understood, and wrong settings end it at once with one line each."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from octavo.api import server
from octavo.config import ServerConfig


@pytest.fixture
def served(monkeypatch, octavo):
    """Run ``octavo serve`` with arguments up to the point where the server would start; return its settings."""

    def serve(*arguments: str) -> ServerConfig:
        seen: list[ServerConfig] = []

        def keep(config: ServerConfig) -> int:
            seen.append(config)
            return 0

        monkeypatch.setattr(server, "serve", keep)
        ran = octavo("serve", *arguments)
        assert (ran.exit_code, ran.errors) == (0, [])
        return seen[0]

    return serve


def test_the_exit_code_of_the_server_is_that_of_the_command(monkeypatch, octavo):
    monkeypatch.setattr(server, "serve", lambda config: 7)
    assert octavo("serve").exit_code == 7


@pytest.mark.parametrize("arguments", [["m"], ["--model", "m"], ["--model=m"], ["m", "--model", "m"]])
def test_the_model_is_an_argument_or_a_flag(served, arguments):
    assert served(*arguments) == ServerConfig(model="m")


def test_two_models_are_refused(octavo):
    assert octavo("serve", "a", "--model", "b").errors == ["two models are named: a and --model b; name one"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-model-len", "8k", "--no-enable-prefix-caching"],
        ["--max_model_len=8000", "--no_enable_prefix_caching"],
        ["--max-model-len", "1", "--max_model_len", "8000", "--enable-prefix-caching", "--no-enable-prefix-caching"],
    ],
)
def test_flags_have_dashes_or_underscores_and_the_last_one_counts(served, arguments):
    assert served(*arguments) == ServerConfig(max_model_len=8000, enable_prefix_caching=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["m", "--served-model-name", "a", "b", "--port", "1"],
        ["m", "--port=1", "--served_model_name", "a", "--served-model-name=b"],
        ["--port", "1", "--served-model-name", "a", "b", "--", "m"],
    ],
)
def test_several_names_follow_one_flag_as_in_vllm(served, arguments):
    assert served(*arguments) == ServerConfig(model="m", served_model_name=["a", "b"], port=1)


def test_a_value_that_begins_with_dashes_is_written_with_an_equals_sign(served):
    assert served("--api-key=--odd").api_key == ["--odd"]


def test_flags_go_before_variables_and_variables_before_the_file(served, monkeypatch, tmp_path):
    file = tmp_path / "server.yaml"
    file.write_text("port: 1\nseed: 1\nblock-size: 8\n", encoding="utf-8")
    monkeypatch.setenv("OCTAVO_PORT", "2")
    monkeypatch.setenv("OCTAVO_SEED", "2")
    assert served("--config", str(file), "--port", "3") == ServerConfig(port=3, seed=2, block_size=8)


@pytest.mark.parametrize(
    ("arguments", "errors"),
    [
        (
            ["--prt", "1", "--max_model_length=2"],
            [
                "there is no --prt; did you mean --port?",
                "there is no --max_model_length; did you mean --max-model-len?",
            ],
        ),
        (["--lora-dtype"], ["vLLM's --lora-dtype does not exist in Octavo yet"]),
        (["--no-enable-chunked-prefill"], ["vLLM's --no-enable-chunked-prefill does not exist in Octavo yet"]),
        (["--tool-parser-plugin", "x"], ["vLLM's --tool-parser-plugin does not exist in Octavo yet"]),
        (
            ["--tool-call-parser", "herms"],
            [
                "flag --tool-call-parser: 'herms' is not right; it must be one of hermes, llama3_json, mistral, "
                "pythonic; did you mean hermes?"
            ],
        ),
        (["--something-else"], ["there is no --something-else"]),
        (["--port"], ["flag --port needs a value"]),
        (["--port", "--host", "h"], ["flag --port needs a value"]),
        (["--api-key", "--port=1"], ["flag --api-key needs a value"]),
        (["--enable-prefix-caching=yes"], ["flag --enable-prefix-caching takes no value, and got 'yes'"]),
        (["--port", "x"], ["flag --port: 'x' is not right; it must be a whole number at least 0 and at most 65535"]),
        (["a", "b"], ["Got unexpected extra argument(s) (b)"]),
        (["-x"], ["No such option: -x"]),
        (["--config", "/nowhere.yaml"], ["configuration file /nowhere.yaml: No such file or directory"]),
    ],
)
def test_wrong_flags_are_told_one_line_each(octavo, arguments, errors):
    ran = octavo("serve", *arguments)
    assert (ran.exit_code, ran.out, ran.errors) == (2, "", errors)


@pytest.mark.parametrize(
    "arguments", [["--prot", "1"], ["--port", "x"], ["--model", "/no/such/directory"], ["--port", "{taken}"]]
)
def test_it_ends_at_once_when_it_cannot_start(arguments, checkpoint: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        given = [argument.format(taken=taken) for argument in arguments]
        started = time.monotonic()
        command = [sys.executable, "-m", "octavo", "serve", "--port=0", *given]
        if "--model" not in given:
            command.append(str(checkpoint))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        took_s = time.monotonic() - started
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert took_s < 10  # generous for a busy machine; alone it takes well under a second
