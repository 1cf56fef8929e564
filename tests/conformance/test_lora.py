"""The official client asks a served octavo-nano for two adapters of it, and operators load and unload them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from openai import AsyncOpenAI, OpenAI
from transformers import AutoTokenizer

from octavo.config.schema import MODEL_IN_THE_BOX
from octavo.models.hub import resolve_model
from tests.lora_adapters import edit_config, load_adapted_oracle, make_adapter
from tests.server_process import ServerProcess, free_port

PROMPT = "Once upon a time there was"
NUM_TOKENS = 12
ASK: dict[str, Any] = {"prompt": PROMPT, "temperature": 0, "max_tokens": NUM_TOKENS, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def base() -> Path:
    return resolve_model(MODEL_IN_THE_BOX)


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        "first": make_adapter(root / "first", base, seed=1, lora_alpha=16),
        "second": make_adapter(root / "second", base, seed=2, r=2, lora_alpha=64, target_modules=["q_proj", "up_proj"]),
        "third": make_adapter(root / "third", base, seed=3, lora_alpha=16),
    }


@pytest.fixture(scope="module")
def expected(base: Path, adapters: dict[str, Path]) -> dict[str, str]:
    """What transformers makes of the prompt with each adapter merged, and without any."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    prompt = tokenizer(PROMPT, return_tensors="pt").input_ids
    texts = {}
    for name, adapter in {MODEL_IN_THE_BOX: None, **adapters}.items():
        oracle: Any = load_adapted_oracle(base, adapter)
        oracle.generation_config.eos_token_id = None
        with torch.no_grad():
            output = oracle.generate(prompt, max_new_tokens=NUM_TOKENS, do_sample=False)
        texts[name] = tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True)
    assert len(set(texts.values())) == 4
    return texts


@pytest.fixture(scope="module")
def server(adapters: dict[str, Path]) -> Iterator[ServerProcess]:
    modules = [
        f"first={adapters['first']}",
        f'{{"name": "second", "path": "{adapters["second"]}", "base_model_name": "the-base"}}',
    ]
    with ServerProcess(
        dtype="float32",  # of the KV cache too, as in the oracle
        lora_modules=modules,
        enable_runtime_lora_updating=True,
        kv_cache_memory_bytes=2**25,
        max_cpu_loras=3,
    ) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as connected:
        yield connected


def load(server: ServerProcess, name: str, path: Path | str) -> httpx.Response:
    body = {"lora_name": name, "lora_path": str(path)}
    return httpx.post(f"{server.url}/v1/load_lora_adapter", json=body, timeout=30)


def unload(server: ServerProcess, name: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/unload_lora_adapter", json={"lora_name": name}, timeout=30)


def ask(client: OpenAI, model: str) -> str:
    return client.completions.create(model=model, **ASK).choices[0].text


def test_adapters_are_listed_with_their_root_and_parent(client: OpenAI, adapters: dict[str, Path]) -> None:
    cards = {model.id: model.model_extra or {} for model in client.models.list()}
    assert {name: (card["root"], card["parent"]) for name, card in cards.items()} == {
        MODEL_IN_THE_BOX: (MODEL_IN_THE_BOX, None),
        "first": (str(adapters["first"]), MODEL_IN_THE_BOX),
        "second": (str(adapters["second"]), "the-base"),
    }
    assert client.models.retrieve("first").id == "first"


async def test_each_request_has_the_adapter_that_its_model_names(
    server: ServerProcess, expected: dict[str, str]
) -> None:
    names = [MODEL_IN_THE_BOX, "first", "second"] * 3
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        answers = await asyncio.gather(*(client.completions.create(model=name, **ASK) for name in names))
    assert [answer.choices[0].text for answer in answers] == [expected[name] for name in names]
    assert [answer.model for answer in answers] == names


def test_a_chat_streams_with_an_adapter(client: OpenAI) -> None:
    request: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": 8}
    whole = client.chat.completions.create(model="first", **request)
    chunks = list(client.chat.completions.create(model="first", stream=True, **request))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert {chunk.model for chunk in chunks} == {"first"}


def test_a_model_that_is_no_adapter_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'octavo-nano', 'first', 'second'"):
        ask(client, "fourth")


def test_an_adapter_is_loaded_and_unloaded_while_the_server_runs(
    server: ServerProcess, client: OpenAI, adapters: dict[str, Path], expected: dict[str, str]
) -> None:
    answer = load(server, "new", adapters["third"])
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'new' added successfully.")
    assert ask(client, "new") == expected["third"]
    assert load(server, "new", adapters["third"]).json()["error"]["param"] == "lora_name"
    assert unload(server, "new").status_code == 200
    with pytest.raises(openai.NotFoundError):
        ask(client, "new")
    assert unload(server, "new").status_code == 404


def test_a_name_that_is_given_again_stands_for_the_new_adapter_alone(
    server: ServerProcess, client: OpenAI, adapters: dict[str, Path], expected: dict[str, str]
) -> None:
    for name in ("third", "first"):
        assert load(server, "again", adapters[name]).status_code == 200
        assert ask(client, "again") == expected[name]
        assert unload(server, "again").status_code == 200


def test_a_request_that_runs_ends_with_its_adapter_after_it_was_unloaded(
    server: ServerProcess, client: OpenAI, adapters: dict[str, Path]
) -> None:
    assert load(server, "leaving", adapters["third"]).status_code == 200
    request: dict[str, Any] = ASK | {"max_tokens": 150}
    whole = client.completions.create(model="leaving", **request).choices[0].text
    stream = client.completions.create(model="leaving", stream=True, **request)
    begun = next(iter(stream)).choices[0].text
    assert unload(server, "leaving").status_code == 200
    assert begun + "".join(chunk.choices[0].text for chunk in stream) == whole


def test_wrong_adapters_are_refused_with_their_reason(
    server: ServerProcess, adapters: dict[str, Path], tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(adapters["third"], tmp_path / "broken"))
    edit_config(broken, r=300)
    cases = {
        str(tmp_path / "nowhere"): "adapter_config.json cannot be read",
        str(broken): "max_lora_rank is 16",
    }
    for path, reason in cases.items():
        answer = load(server, "wrong", path)
        assert answer.status_code == 400
        assert reason in answer.json()["error"]["message"]
        assert answer.json()["error"]["param"] == "lora_path"
    named_like_the_model = load(server, MODEL_IN_THE_BOX, adapters["third"])
    assert (named_like_the_model.status_code, named_like_the_model.json()["error"]["param"]) == (400, "lora_name")


def test_no_more_adapters_than_max_cpu_loras_are_loaded(server: ServerProcess, adapters: dict[str, Path]) -> None:
    assert load(server, "one", adapters["third"]).status_code == 200
    refused = load(server, "two", adapters["third"])
    assert (refused.status_code, "max_cpu_loras" in refused.text) == (400, True)
    assert unload(server, "one").status_code == 200


def test_adapters_are_there_again_after_the_engine_died(
    server: ServerProcess, client: OpenAI, adapters: dict[str, Path], expected: dict[str, str], tmp_path: Path
) -> None:
    lost = Path(shutil.copytree(adapters["third"], tmp_path / "lost"))
    assert load(server, "lost", lost).status_code == 200
    shutil.rmtree(lost)
    (engine,) = _children(server.pid)
    subprocess.run(["kill", "-9", str(engine)], check=True)
    while server.health() == 200:
        pass
    server.wait_ready()
    assert ask(client, "first") == expected["first"]
    assert ask(client, MODEL_IN_THE_BOX) == expected[MODEL_IN_THE_BOX]
    with pytest.raises(openai.NotFoundError):
        ask(client, "lost")
    assert "the LoRA adapter 'lost' is not there any more" in server.logs


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--lora-modules", "lost=/nowhere/at/all"], "LoRA adapter 'lost': /nowhere/at/all/adapter_config.json cannot"),
        (["--lora-modules", "octavo-nano=/tmp"], "'octavo-nano' is the name of the model"),
        (["--lora-modules", "nameless"], "'nameless' is not right; write name=path"),
        (["--lora-modules", "a=/x", "a=/y"], "two adapters are named 'a'"),
        (["--lora-modules", '{"name": "a"}'], "an adapter has name, path and perhaps base_model_name"),
    ],
)
def test_a_server_does_not_start_with_wrong_adapters(flags: list[str], reason: str) -> None:
    command = [sys.executable, "-m", "octavo", "serve", "--port", str(free_port()), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_adapters_are_not_updated_unless_the_operator_allows_it(random_model: Path) -> None:
    with ServerProcess(model=str(random_model), kv_cache_memory_bytes=2**22, max_model_len=128) as closed:
        for answer in (load(closed, "a", "/tmp"), unload(closed, "a")):
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "lora_updating_disabled"
            assert "--enable-runtime-lora-updating" in answer.json()["error"]["message"]
