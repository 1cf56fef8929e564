"""Structured output through the openai client, against a real server."""

from __future__ import annotations

import json
from typing import Any, Literal

import httpx
import jsonschema
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.conformance.conftest import MODEL_NAME
from tests.server_process import ServerProcess

MESSAGES: Any = [{"role": "user", "content": "Describe something."}]


class Step(BaseModel):
    explanation: str = Field(max_length=30)
    weight: float


class Answer(BaseModel):
    kind: Literal["short", "long"]
    steps: list[Step] = Field(max_length=2)
    total: int | None


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_an_answer_parses_into_a_pydantic_model(client: OpenAI) -> None:
    completion = client.chat.completions.parse(
        model=MODEL_NAME, messages=MESSAGES, response_format=Answer, temperature=1, seed=1, max_tokens=400
    )
    choice = completion.choices[0]
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.parsed, Answer)


def test_streamed_parts_make_valid_json_for_each_choice(client: OpenAI) -> None:
    word = {"type": "string", "maxLength": 20}  # at this temperature they would not all end
    schema = {
        "type": "object",
        "properties": {
            "name": word,
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "kinds": {"enum": [1, "b"]},
        },
        "required": ["name", "age", "kinds"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "made", "schema": schema, "strict": True}}
    texts = {0: "", 1: ""}
    stream = client.chat.completions.create(
        model=MODEL_NAME, messages=MESSAGES, response_format=form, n=2, stream=True, temperature=1, max_tokens=400
    )
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    for text in texts.values():
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"guided_choice": ["yes", "no"]},
        {"structured_outputs": {"regex": "yes|no"}},
        {"guided_regex": "yes|no"},
        {"guided_grammar": 'start: "yes" | "no"'},
        {"guided_json": {"enum": ["yes", "no"]}, "guided_whitespace_pattern": " "},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["yes", "no"]}}}},
    ],
)
def test_old_and_new_names_hold_in_both_routes(server: ServerProcess, fields: dict[str, Any]) -> None:
    for path, prompt in (("chat/completions", {"messages": MESSAGES}), ("completions", {"prompt": "Is it?"})):
        answer = httpx.post(f"{server.url}/v1/{path}", json=prompt | fields | {"max_tokens": 20}, timeout=60)
        assert answer.status_code == 200, answer.text
        choice = answer.json()["choices"][0]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        assert text.strip('"') in ("yes", "no")


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
        ({"guided_json": {"type": "strng"}}, "guided_json", "Invalid type: strng"),
        ({"structured_outputs": {"json": {"not": {}}}}, "structured_outputs", "not"),
        ({"structured_outputs": {"jsn": {}}}, "structured_outputs.jsn", "did you mean 'json'"),
        ({"structured_outputs": {"json": {"$ref": "#"}}}, "structured_outputs", "no text can satisfy it"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_regex", "exclude each other"),
        ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern", "guided_json"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "complete"),
        (
            {"guided_grammar": "start: R0\n" + "".join(f'R{i}: "b" R{i + 1}\n' for i in range(15_000)) + 'R15000: "a"'},
            "guided_grammar",
            "too complex",
        ),
    ],
)
def test_what_cannot_be_held_is_refused_by_name_and_harms_nobody(
    server: ServerProcess, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"} | fields, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert words in answer.json()["error"]["message"]
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_an_endless_array_ends_by_length(client: OpenAI) -> None:
    endless: Any = {"type": "array", "items": {"type": "integer"}, "minItems": 10**9}
    form: Any = {"type": "json_schema", "json_schema": {"name": "endless", "schema": endless}}
    completion = client.chat.completions.create(
        model=MODEL_NAME, messages=MESSAGES, response_format=form, max_tokens=30
    )
    assert completion.choices[0].finish_reason == "length"
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=MODEL_NAME, messages=MESSAGES, response_format=Answer, max_tokens=5)
