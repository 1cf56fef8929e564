from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.api.json_body import MAX_NESTING, parse_body
from octavo.api.openai.requests import ChatCompletionRequest, CompletionRequest
from octavo.errors import RequestError

USER = {"role": "user", "content": "hi"}


def refusal(body: bytes | dict, model: type = CompletionRequest) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_body(body if isinstance(body, bytes) else json.dumps(body).encode(), model)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"prompt": NaN}',
        b'{"prompt": "x", "temperature": Infinity}',
        b'{"prompt": "x", "temperature": 1e999}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\\udc00 text behind it"}',
        b'{"prompt": "\xff"}',
        b'{"prompt": "\xed\xa0\x80"}',
        b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[]",
        b"3",
        b"null",
    ],
)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    refusal(body)


def test_nesting_is_bounded() -> None:
    def nested(levels: int) -> dict:
        value: object = 1
        for _ in range(levels - 2):
            value = [value]
        return {"messages": [USER], "metadata": None, "chat_template_kwargs": {"x": value}}

    parse_body(json.dumps(nested(MAX_NESTING)).encode(), ChatCompletionRequest)
    assert "levels" in str(refusal(nested(MAX_NESTING + 1), ChatCompletionRequest))


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "prompt", "missing"),
        ({"prompt": 5}, "prompt", "a string or a list, not 5"),
        ({"prompt": []}, "prompt", "a list of at least 1"),
        ({"prompt": "x", "temperature": -1}, "temperature", "at least 0, not -1"),
        ({"prompt": "x", "temperature": "1"}, "temperature", "a number, not '1'"),
        ({"prompt": "x", "temperature": 10**400}, "temperature", "a number"),
        ({"prompt": "x", "seed": 10**400}, "seed", "at most"),
        ({"prompt": "x", "top_p": 0}, "top_p", "above 0, not 0"),
        ({"prompt": "x", "n": True}, "n", "an integer, not true"),
        ({"prompt": "x", "n": 129}, "n", "at most 128, not 129"),
        ({"prompt": "x", "stream": "true"}, "stream", "true or false"),
        ({"prompt": "x", "stop": ["a", 1]}, "stop[1]", "a string, not 1"),
        ({"prompt": [[1, 2], [-3]]}, "prompt[1][0]", "at least 0, not -3"),
        ({"prompt": "x", "logit_bias": {"7": 101}}, "logit_bias.7", "at most 100, not 101"),
        ({"prompt": "x", "logprobs": 21}, "logprobs", "at most 20, not 21"),
        ({"prompt": "x", "best_of": 1, "n": 3}, "best_of", "n=3"),
        ({"prompt": "x", "stream_options": {}}, "stream_options", "stream=true"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_is_allowed(body: dict, param: str, words: str) -> None:
    error = refusal(body)
    assert error.param == param
    assert words in str(error)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (5, "messages[0]"),
        ({"content": "x"}, "messages[0].role"),
        ({"role": "usr", "content": "x"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": 3}, "messages[0].content"),
        ({"role": "user", "content": []}, "messages[0].content"),
        ({"role": "user", "content": "x", "nme": "y"}, "messages[0].nme"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "assistant"}, "messages[0].content"),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
    ],
)
def test_a_wrong_message_is_refused_with_its_place(message: object, param: str) -> None:
    assert refusal({"messages": [message]}, ChatCompletionRequest).param == param


@pytest.mark.parametrize(
    ("body", "param", "nearest"),
    [
        ({"prompt": "x", "temprature": 1}, "temprature", "'temperature'"),
        ({"prompt": "x", "max_token": 1}, "max_token", "'max_tokens'"),
        ({"promt": "x"}, "promt", "'prompt'"),
        (
            {"prompt": "x", "stream": True, "stream_options": {"includeusage": True}},
            "stream_options.includeusage",
            "'include_usage'",
        ),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(body: dict, param: str, nearest: str) -> None:
    error = refusal(body)
    assert error.param == param
    assert error.code == "unknown_parameter"
    assert nearest in str(error)


def test_messages_show_braces_as_they_were_sent() -> None:
    error = refusal({"prompt": "x", "echo": {"{text}": "{0}"}})
    assert '{"{text}":"{0}"}' in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.data(), model=st.sampled_from([ChatCompletionRequest, CompletionRequest]))
def test_any_json_object_is_accepted_or_refused_in_order(data: st.DataObject, model: type) -> None:
    names = st.sampled_from(sorted(model.model_fields)) | st.text(max_size=8)
    document = data.draw(st.dictionaries(names, json_values, max_size=4))
    with suppress(RequestError):
        parse_body(json.dumps(document).encode(), model)


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_in_order(body: bytes) -> None:
    refusal(body)
