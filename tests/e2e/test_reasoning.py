"""Reasoning over HTTP, by a random model that begins each answer in a thought and would never end it by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.server_process import ServerProcess

THINKING_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}"
    "<|im_start|>assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}"
)
HELLO: Any = [{"role": "user", "content": "Hello!"}]
PING: Any = {"type": "function", "function": {"name": "ping", "parameters": {"enum": [{"a": 1}]}}}


@pytest.fixture(scope="module")
def client(random_model: Path) -> Iterator[openai.OpenAI]:
    settings = {"model": str(random_model), "reasoning_parser": "qwen3", "chat_template": THINKING_TEMPLATE}
    with (
        ServerProcess(**settings, served_model_name=["thinker"], kv_cache_memory_bytes=2**24) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60) as connected,
    ):
        yield connected


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    extra = {"ignore_eos": True, **fields.pop("extra_body", {})}
    given = {"messages": HELLO, "temperature": 1, "seed": 1, "max_tokens": 40, **fields}
    return client.chat.completions.create(model="thinker", extra_body=extra, **given)


def test_a_thought_that_never_ends_is_all_reasoning(client: openai.OpenAI) -> None:
    answer = ask(client)
    message = answer.choices[0].message
    assert message.content == ""
    assert message.reasoning_content
    assert message.reasoning == message.reasoning_content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize("budget", [0, 1, 7])
def test_a_budget_ends_the_thought_and_the_answer_follows(client: openai.OpenAI, budget: int) -> None:
    whole = ask(client, extra_body={"thinking_token_budget": budget})
    message = whole.choices[0].message
    assert message.content
    assert bool(message.reasoning_content) == (budget > 0)
    assert "</think>" not in message.content + (message.reasoning_content or "")
    details = whole.usage.completion_tokens_details
    # The tag is no token here, so the text is tokenized again, and half a character has become three bytes.
    assert details.reasoning_tokens <= 3 * budget
    chunks = list(ask(client, extra_body={"thinking_token_budget": budget}, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == message.content
    reasoning = [delta.model_extra.get("reasoning_content", "") for delta in deltas]
    assert "".join(reasoning) == (message.reasoning_content or "")


def test_reasoning_can_be_left_out(client: openai.OpenAI) -> None:
    fields = {"thinking_token_budget": 5, "include_reasoning": False}
    message = ask(client, extra_body=fields).choices[0].message
    assert message.content
    assert "reasoning_content" not in message.model_extra
    for chunk in ask(client, extra_body=fields, stream=True):
        assert not chunk.choices[0].delta.model_extra


def test_a_template_that_switches_thinking_off_gives_plain_answers(client: openai.OpenAI) -> None:
    answer = ask(client, extra_body={"chat_template_kwargs": {"enable_thinking": False}, "thinking_token_budget": 3})
    assert answer.choices[0].message.content
    assert answer.choices[0].message.reasoning_content is None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_earlier_reasoning_reaches_the_template(client: openai.OpenAI, name: str) -> None:
    earlier = [*HELLO, {"role": "assistant", "content": "Hi.", name: "A greeting. " * 5}, *HELLO]
    plain = [*HELLO, {"role": "assistant", "content": "Hi."}, *HELLO]
    with_thought, without = (ask(client, messages=messages, max_tokens=1).usage for messages in (earlier, plain))
    assert with_thought.prompt_tokens > without.prompt_tokens + 20


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_demanded_comes_after_the_thought(client: openai.OpenAI, stream: bool) -> None:
    fields = {"tools": [PING], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 120}
    extra = {"thinking_token_budget": 6, "ignore_eos": False}
    answer = ask(client, **fields, extra_body=extra, stream=stream)
    if stream:
        chunks = list(answer)
        calls = [call.function for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
        name, arguments = calls[0].name, "".join(call.arguments for call in calls)
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
    else:
        message = answer.choices[0].message
        assert message.reasoning_content
        assert message.content is None
        ((name, arguments),) = [(call.function.name, call.function.arguments) for call in message.tool_calls]
    assert (name, json.loads(arguments)) == ("ping", {"a": 1})


def test_a_form_that_is_demanded_holds_after_the_thought(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}
    extra = {"guided_json": schema, "thinking_token_budget": 6, "ignore_eos": False}
    message = ask(client, max_tokens=120, extra_body=extra).choices[0].message
    assert message.reasoning_content
    assert json.loads(message.content) == {"a": 1}
