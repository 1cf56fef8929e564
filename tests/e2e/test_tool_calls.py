"""The model in the box calls tools through the official client and through an agent of LangChain."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_openai import ChatOpenAI

from tests.server_process import ServerProcess

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the city"}},
            "required": ["city"],
        },
    },
}
QUESTION: Any = {"role": "user", "content": "What is the weather in Paris?"}
RESULT = '{"temperature": 21, "condition": "sunny"}'


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(kv_cache_memory_bytes=2**26) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60) as connected:
        yield connected


def ask(client: openai.OpenAI, *messages: Any, **fields: Any) -> Any:
    given = {"temperature": 0, "max_tokens": 100, "tools": [WEATHER], **fields}
    return client.chat.completions.create(model="octavo-nano", messages=list(messages), **given)


def test_a_call_its_result_and_the_answer(client: openai.OpenAI) -> None:
    choice = ask(client, QUESTION).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": RESULT}
    answer = ask(client, QUESTION, choice.message, result).choices[0]
    assert answer.finish_reason == "stop"
    assert answer.message.tool_calls is None
    assert "21" in answer.message.content
    assert "sunny" in answer.message.content


def test_a_streamed_call_comes_as_the_client_expects(client: openai.OpenAI) -> None:
    chunks = list(ask(client, QUESTION, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    first, *others = deltas
    assert (first.index, first.type, first.function.name, first.function.arguments) == (
        0,
        "function",
        "get_weather",
        "",
    )
    assert first.id
    assert len(others) > 1
    assert all((part.index, part.id, part.type, part.function.name) == (0, None, None, None) for part in others)
    assert json.loads("".join(part.function.arguments for part in others)) == {"city": "Paris"}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ""
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["tool_calls"]


def test_the_stream_helper_of_the_client_makes_the_same_call(client: openai.OpenAI) -> None:
    plain = ask(client, QUESTION).choices[0].message.tool_calls[0].function
    with client.chat.completions.stream(
        model="octavo-nano", messages=[QUESTION], tools=[WEATHER], temperature=0, max_tokens=100
    ) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.delta" in kinds
    assert "tool_calls.function.arguments.done" in kinds
    assert message.tool_calls is not None
    function = message.tool_calls[0].function
    assert (function.name, function.arguments) == (plain.name, plain.arguments)


def test_each_of_several_answers_has_calls_of_its_own(client: openai.OpenAI) -> None:
    choices = ask(client, QUESTION, n=2, temperature=0.1, seed=1).choices
    calls = [call for choice in choices for call in choice.message.tool_calls or []]
    assert len(calls) == 2
    assert calls[0].id != calls[1].id


def test_logprobs_of_all_tokens_come_beside_the_parts_of_a_call(client: openai.OpenAI) -> None:
    chunks = list(ask(client, QUESTION, stream=True, logprobs=True, stream_options={"include_usage": True}))
    entries = [
        entry
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs is not None
        for entry in choice.logprobs.content
    ]
    assert len(entries) == chunks[-1].usage.completion_tokens


ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"$ref": "#/$defs/number"},
                "unit": {"enum": ["m", "km"]},
                "more": {"type": "array", "items": {"$ref": "#/$defs/number"}, "minItems": 1, "maxItems": 2},
            },
            "required": ["a", "unit", "more"],
            "additionalProperties": False,
            "$defs": {"number": {"type": "integer", "minimum": 0, "maximum": 9}},
        },
    },
}
PING: Any = {"type": "function", "function": {"name": "ping"}}
HELLO: Any = {"role": "user", "content": "Hello!"}


def test_beside_a_form_the_model_calls_or_answers_in_it(client: openai.OpenAI) -> None:
    sentence = r"[A-Z][a-z]+( [a-z0-9]+){2,6}\."
    form = {"structured_outputs": {"regex": sentence}}
    choice = ask(client, QUESTION, extra_body=form).choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": RESULT}
    answer = ask(client, QUESTION, choice.message, result, extra_body=form).choices[0]
    assert answer.message.tool_calls is None
    assert re.fullmatch(sentence, answer.message.content)


@pytest.mark.parametrize("name", ["get_weather", "add", "ping"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_function_that_is_named_is_called_with_arguments_that_fit(
    client: openai.OpenAI, name: str, stream: bool
) -> None:
    choice = {"type": "function", "function": {"name": name}}
    given = {"tools": [WEATHER, ADD, PING], "tool_choice": choice, "temperature": 1.0, "seed": 5, "stream": stream}
    answer = ask(client, HELLO, **given)
    if stream:
        deltas = [call.function for chunk in answer for call in chunk.choices[0].delta.tool_calls or []]
        called, arguments = deltas[0].name, "".join(function.arguments for function in deltas)
    else:
        assert answer.choices[0].finish_reason == "tool_calls"
        ((called, arguments),) = [
            (call.function.name, call.function.arguments) for call in answer.choices[0].message.tool_calls
        ]
    assert called == name
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") for tool in (WEATHER, ADD, PING)}
    jsonschema.validate(json.loads(arguments), schemas[name] or {"maxProperties": 0})


@pytest.mark.parametrize("seed", range(3))
def test_where_a_call_is_required_there_is_one_whatever_is_asked(client: openai.OpenAI, seed: int) -> None:
    fields = {"tools": [ADD, PING], "tool_choice": "required", "temperature": 1.5, "seed": seed, "max_tokens": 400}
    choice = ask(client, HELLO, parallel_tool_calls=False, **fields).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    schema = ADD["function"]["parameters"] if call.function.name == "add" else {"maxProperties": 0}
    jsonschema.validate(json.loads(call.function.arguments), schema)


def test_a_schema_that_cannot_be_enforced_is_the_tools_fault(client: openai.OpenAI) -> None:
    odd = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "nonsense"}}}}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, HELLO, tools=[odd], tool_choice="required")
    assert caught.value.param == "tools"


def test_without_a_choice_of_tools_nothing_is_looked_for(client: openai.OpenAI) -> None:
    message = ask(client, QUESTION, tool_choice="none").choices[0].message
    assert message.tool_calls is None
    assert message.content


def test_a_question_that_needs_no_tool_is_answered(client: openai.OpenAI) -> None:
    choice = ask(client, {"role": "user", "content": "What is the capital of France?"}).choices[0]
    assert choice.finish_reason == "stop"
    assert "Paris" in choice.message.content
    assert choice.message.tool_calls is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"extra_body": {"thinking_token_budget": 3}}, "thinking_token_budget"),
    ],
)
def test_wrong_requests_name_the_field(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, QUESTION, **fields)
    assert caught.value.param == param


def get_weather(city: str) -> str:
    """Get the weather of a city"""
    return f"21 degrees, sunny in {city}"


@pytest.mark.parametrize("streaming", [False, True])
def test_an_agent_calls_its_tool_and_answers_with_the_result(server: ServerProcess, streaming: bool) -> None:
    model = ChatOpenAI(
        base_url=f"{server.url}/v1", api_key="unused", model="octavo-nano", temperature=0, streaming=streaming
    )
    agent = create_agent(model, tools=[get_weather])
    messages = agent.invoke({"messages": [QUESTION]})["messages"]
    assert [type(message).__name__ for message in messages] == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"]
    call, result, answer = messages[1:]
    assert isinstance(call, AIMessage)
    assert [(made["name"], made["args"]) for made in call.tool_calls] == [("get_weather", {"city": "Paris"})]
    assert isinstance(result, ToolMessage)
    assert result.tool_call_id == call.tool_calls[0]["id"]
    assert "21" in answer.content
