"""The model in the box keeps its skills behind the real server, and answers as the README shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest

from octavo import LLM, SamplingParams
from tests.server_process import ServerProcess
from tools.train_nano.conversations import SKILLS
from tools.train_nano.evaluate import ask_server, questions, scores

SAMPLES = 20
LEAST_SCORES = {
    "identity": 0.9,
    "capitals": 0.8,
    "terms": 0.8,
    "copy": 0.8,
    "recall": 0.8,
    "json": 0.8,
    "tool_call": 0.7,
    "tool_skip": 0.8,
    "story": 0.8,
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused")


def test_skills_are_not_lost_on_the_way_through_the_engine(server: ServerProcess) -> None:
    results = asyncio.run(ask_server(f"{server.url}/v1", None, questions(list(SKILLS), SAMPLES, seed=7)))
    reached = scores(results)
    assert {skill: score for skill, score in reached.items() if score < LEAST_SCORES.get(skill, 0.0)} == {}


def test_the_server_and_the_offline_engine_give_the_same_answer(client: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    answer = client.chat.completions.create(model="octavo-nano", messages=question, max_tokens=40)
    text = answer.choices[0].message.content
    assert text is not None
    assert "Paris" in text
    (output,) = LLM(kv_cache_memory_bytes=2**26).chat(question, SamplingParams(temperature=0, max_tokens=40))
    assert output.outputs[0].text == text


def test_a_second_turn_finds_the_first_in_the_prefix_cache(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Tell me a short story about a fox named Tilly."}]
    first = client.chat.completions.create(model="octavo-nano", messages=messages)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "What is 2 + 3?"},
    ]
    second = client.chat.completions.create(model="octavo-nano", messages=messages)
    assert second.usage is not None
    details = second.usage.prompt_tokens_details
    assert details is not None
    assert (details.cached_tokens or 0) > 100
