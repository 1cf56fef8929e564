"""The model in the box as a GGUF file, from the command line to the answer."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest
from gguf import GGMLQuantizationType

from octavo import LLM, SamplingParams
from octavo.engine.outputs import CompletionOutput
from octavo.models.hub import resolve_model
from tests.gguf_files import make_gguf
from tests.server_process import ServerProcess

QUESTIONS = ["What is the capital of France?", "What is 2 + 3?", "Tell me a short story about a fox named Tilly."]
CONVERSATIONS = [[{"role": "user", "content": question}] for question in QUESTIONS]
GREEDY = SamplingParams(temperature=0, max_tokens=60)
PROMPT = "The capital of"


def nano(directory: Path, kind: str) -> str:
    path = directory / f"octavo-nano-{kind}.gguf"
    return str(make_gguf(path, resolve_model("octavo-nano"), kind=GGMLQuantizationType[kind], pre="octavo"))


def answers(model: str) -> list[CompletionOutput]:
    llm = LLM(model, kv_cache_memory_bytes=2**26, cpu_threads=1)
    outputs = [*llm.chat(CONVERSATIONS, GREEDY, use_tqdm=False), *llm.generate([PROMPT], GREEDY, use_tqdm=False)]
    return [output.outputs[0] for output in outputs]


@pytest.fixture(scope="module")
def original() -> list[CompletionOutput]:
    return answers("octavo-nano")


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_unquantised_file_gives_the_tokens_of_the_checkpoint(
    kind: str, original: list[CompletionOutput], tmp_path: Path
) -> None:
    outputs = answers(nano(tmp_path, kind))
    assert [output.token_ids for output in outputs] == [
        output.token_ids for output in original
    ]  # the checkpoint is bfloat16, small enough for float16


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_quantised_file_still_knows_the_facts(kind: str, tmp_path: Path) -> None:
    llm = LLM(nano(tmp_path, kind), kv_cache_memory_bytes=2**26, cpu_threads=1)
    (output,) = llm.chat(CONVERSATIONS[0], GREEDY, use_tqdm=False)
    assert "Paris" in output.outputs[0].text


def test_file_is_served_under_its_path_or_the_given_name(original: list[CompletionOutput], tmp_path: Path) -> None:
    path = nano(tmp_path, "F32")
    with ServerProcess(model=path, served_model_name=["nano", path], kv_cache_memory_bytes=2**26) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused")
        assert [model.id for model in client.models.list().data] == ["nano", path]
        for name in ("nano", path):
            answer = client.completions.create(model=name, prompt=PROMPT, temperature=0, max_tokens=60)
            assert answer.choices[0].text == original[-1].text
