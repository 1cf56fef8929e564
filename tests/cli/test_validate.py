"""``octavo validate``: it accepts what serve accepts, refuses what serve refuses, and names every problem at once."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from pathlib import Path

import pytest
import yaml

from octavo.api import lifecycle
from octavo.engine.async_llm import AsyncLLM
from octavo.engine.builder import build_engine
from octavo.errors import EngineDeadError
from tests.checkpoints import make_checkpoint
from tests.server_process import free_port

ROOT = Path(__file__).parents[2]
EXIT_WOULD_SERVE = 1


@pytest.fixture
def serve(octavo, monkeypatch):
    """Run ``octavo serve`` as far as an engine that is ready, which is built here instead of in its own process.

    The exit code is 2 if it refuses to start, and ``EXIT_WOULD_SERVE`` if it would have gone on.
    """

    async def start(llm: AsyncLLM, standby: Process) -> None:
        assert standby.returncode is None
        build_engine(llm.config, llm.directory, llm.model_config, llm.max_model_len)
        raise EngineDeadError("it would serve now")

    monkeypatch.setattr(AsyncLLM, "start", start)
    monkeypatch.setattr(lifecycle, "set_up_logging", lambda *_, **__: None)
    return lambda *arguments: octavo("serve", *arguments)


@pytest.fixture
def model(checkpoint, tmp_path) -> Path:
    """A copy of the checkpoint that a test may break."""
    return shutil.copytree(checkpoint, tmp_path / "model")


def break_config(model: Path) -> None:
    (model / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}', encoding="utf-8")


def break_shape(model: Path) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(config | {"intermediate_size": 128}), encoding="utf-8")


def break_weights(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def break_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").write_text("{}", encoding="utf-8")


def break_generation_config(model: Path) -> None:
    (model / "generation_config.json").write_text('{"temperature": -1}', encoding="utf-8")


def break_own_template(model: Path) -> None:
    path = model / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"chat_template": "{% for %}"}), encoding="utf-8")


def without(name: str):
    return lambda model: (model / name).unlink()


RIGHT = {
    "the model in the box": [],
    "another length": ["--max-model-len", "2k", "--block-size", "32"],
    "as little KV cache as one sequence needs": ["--max-model-len=16", "--kv-cache-memory-bytes=1MiB"],
    "a chat template as text": ["--chat-template", "{{ messages[0].content }}"],
    "a free port": ["--port", "0"],
    "open with a key": ["--host", "0.0.0.0", "--api-key", "secret"],
    "open without a key": ["--host", "0.0.0.0"],
    "a collector that nobody started": ["--otlp-traces-endpoint", "http://127.0.0.1:9"],
}
WRONG = {
    "unknown flag": ["--prot", "1"],
    "flag without a value": ["--port"],
    "value out of range": ["--port", "70000"],
    "unknown value": ["--dtype", "int3"],
    "two devices": ["--tensor-parallel-size", "2"],
    "quantization": ["--quantization", "awq"],
    "no such file": ["--config", "/no/such/file.yaml"],
    "no such directory": ["/no/such/model"],
    "no name of the hub": ["a//b"],
    "a file as model": ["--model", __file__],
    "GGUF": ["model.gguf"],
    "two models": ["a", "--model", "b"],
    "no such tokenizer": ["--tokenizer", "/no/such/tokenizer"],
    "longer than the model": ["--max-model-len", "5000"],
    "KV cache too small": ["--kv-cache-memory-bytes", "4KiB"],
    "no such template": ["--chat-template", "/no/such/template.jinja"],
    "template that does not parse": ["--chat-template", "{% for %}"],
    "no address of this machine": ["--host", "203.0.113.1"],
    "no address at all": ["--host", "nowhere.invalid"],
    "no CUDA device": ["--device", "cuda"],
    "no address of a collector": ["--otlp-traces-endpoint", "collector"],
}
BROKEN_MODELS = {
    "architecture": break_config,
    "shape": break_shape,
    "weights": break_weights,
    "tokenizer": break_tokenizer,
    "generation_config.json": break_generation_config,
    "its own chat template": break_own_template,
    "without config.json": without("config.json"),
    "without weights": without("model.safetensors"),
    "without a tokenizer": without("tokenizer.json"),
}


@pytest.mark.parametrize("arguments", RIGHT.values(), ids=RIGHT)
def test_what_serve_accepts_is_right(serve, octavo, arguments):
    arguments = ["--port", str(free_port()), *arguments]
    assert octavo("validate", *arguments).exit_code == 0
    assert serve(*arguments).exit_code == EXIT_WOULD_SERVE


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_what_serve_refuses_is_wrong_and_for_the_same_reason(serve, octavo, monkeypatch, arguments):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    if "--port" not in arguments:
        arguments = [*arguments, "--port", str(free_port())]
    refused = serve(*arguments)
    assert refused.exit_code == 2
    checked = octavo("validate", *arguments)
    assert checked.exit_code == 1
    for reason in refused.errors:
        assert reason in checked.out


@pytest.mark.parametrize("break_it", BROKEN_MODELS.values(), ids=BROKEN_MODELS)
def test_a_model_that_serve_refuses_is_wrong_for_the_same_reason(serve, octavo, model, break_it):
    arguments = ["--port", str(free_port()), str(model)]
    assert octavo("validate", *arguments).exit_code == 0
    break_it(model)
    refused = serve(*arguments)
    assert refused.exit_code == 2
    checked = octavo("validate", *arguments)
    assert checked.exit_code == 1
    for reason in refused.errors:
        assert reason in checked.out


def test_a_server_process_refuses_weights_as_validate_does(octavo, model):
    break_shape(model)
    arguments = [str(model), "--port", str(free_port())]
    served = subprocess.run(
        [sys.executable, "-m", "octavo", "serve", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert served.returncode == 2
    (reason,) = [line for line in served.stderr.splitlines() if line.startswith("octavo: error: ")]
    assert reason.removeprefix("octavo: error: ") in octavo("validate", *arguments).out


def test_dummy_weights_need_no_checkpoint(serve, octavo, model):
    (model / "model.safetensors").unlink()
    arguments = [str(model), "--load-format=dummy", "--port", str(free_port())]
    assert octavo("validate", *arguments).exit_code == 0
    assert serve(*arguments).exit_code == EXIT_WOULD_SERVE


def test_a_port_that_is_taken_is_wrong(octavo):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        checked = octavo("validate", "--port", str(taken.getsockname()[1]))
    assert checked.exit_code == 1
    assert "is already in use" in checked.out


def test_every_problem_is_named_at_once_from_every_source(octavo, monkeypatch, tmp_path, model):
    break_weights(model)
    break_tokenizer(model)
    break_generation_config(model)
    file = tmp_path / "server.yaml"
    file.write_text(yaml.safe_dump({"model": str(model), "max-model-len": "2k", "blok-size": 1, "seed": -1}))
    monkeypatch.setenv("OCTAVO_MAX_NUM_SEQS", "no")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        checked = octavo("validate", str(file), "--port", port, "--prot", "1", "--chat-template", "{% for %}", "--json")
    report = json.loads(checked.out)
    assert not report["ok"]
    parts = [
        "there is no --prot; did you mean --port?",
        f"key blok-size in {file}: there is no blok-size; did you mean block-size?",
        f"key seed in {file}: -1 is not right",
        "variable OCTAVO_MAX_NUM_SEQS: 'no' is not right",
        f"port {port} on 127.0.0.1 is already in use",
        "--chat-template is not a valid Jinja template",
        "generation_config.json",
        "model.safetensors is broken or incomplete",
        "max_model_len=2000 is more than the 1024 tokens",
        "tokenizer.json",
    ]
    errors = [finding["message"] for finding in report["findings"] if finding["severity"] == "error"]
    assert [next(i for i, error in enumerate(errors) if part in error) for part in parts] == list(range(len(errors)))


def test_errors_and_warnings_stand_apart(octavo):
    checked = octavo("validate", "--host", "0.0.0.0", "--port", str(free_port()), "--max-model-len", "9k")
    lines = checked.out.splitlines()
    assert lines[0] == "Errors:"
    assert lines[1].startswith("  max_model_len: ")
    assert lines[2] == "Warnings:"
    assert lines[3].startswith("  address: host 0.0.0.0 can be reached from other machines")
    assert lines[4] == "octavo serve would refuse this: 1 error, 1 warning."


def test_a_model_that_would_be_downloaded_is_not_checked_and_not_asked_for(octavo, monkeypatch, tmp_path):
    def no_network(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", no_network)
    checked = octavo("validate", "some/model", "--port", "0")
    assert checked.exit_code == 0
    assert checked.out.splitlines()[0] == "Not checked:"
    assert checked.out.splitlines()[-1].startswith("Nothing wrong was found, but not everything could be checked")


@pytest.mark.parametrize("arguments", [["{file}"], ["--config", "{file}"], ["{file}", "--config", "{file}"]])
def test_the_file_is_an_argument_or_a_flag(octavo, tmp_path, arguments):
    file = tmp_path / "server.yaml"
    file.write_text("port: 70000\n", encoding="utf-8")
    assert f"key port in {file}" in octavo("validate", *(part.format(file=file) for part in arguments)).out


def test_two_files_are_refused(octavo):
    checked = octavo("validate", "a.yaml", "--config", "b.yaml")
    assert checked.exit_code == 1
    assert "two files are named: a.yaml and --config b.yaml; name one" in checked.out


def test_the_script_says_the_same(octavo, tmp_path):
    file = tmp_path / "server.yaml"
    file.write_text("max-model-len: 9k\nport: 0\n", encoding="utf-8")
    script = subprocess.run(
        [sys.executable, ROOT / "scripts/validate_model_config.py", file], capture_output=True, text=True, check=False
    )
    checked = octavo("validate", str(file))
    assert (script.returncode, script.stdout) == (checked.exit_code, checked.out) == (1, checked.out)


def test_shards_are_checked_one_by_one(octavo, tmp_path):
    model = make_checkpoint(tmp_path / "sharded", "llama", tokenizer=True, max_shard_size="100KB")
    first, second, *_ = sorted(model.glob("*.safetensors"))
    assert octavo("validate", str(model), "--port=0").exit_code == 0
    first.write_bytes(b"\xff" * 64)
    second.write_bytes(second.read_bytes()[:-1])
    out = octavo("validate", str(model), "--port=0").out
    assert f"{first} is broken or incomplete" in out
    assert f"{second} is broken or incomplete" in out
