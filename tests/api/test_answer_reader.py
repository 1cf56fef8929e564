"""Answers taken apart: whole and streamed they give the same message, and the counts are right."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from openai.types.chat import ChatCompletionChunk
from tokenizers import AddedToken

from octavo.api.openai.answer_reader import AnswerFormat, AnswerReader, new_call_id, new_mistral_call_id
from octavo.api.openai.responses import AnswerMessage, ChatChunk, ChatChunkChoice
from octavo.engine.outputs import CompletionOutput
from octavo.text import Tokenizer
from octavo.text.reasoning_parsers import REASONING_FORMATS
from octavo.text.tool_parsers import TOOL_FORMATS
from tests.text.made_tokenizers import byte_level_bpe, load_backend

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "x"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A tokenizer in which both tags of a thought are tokens."""
    backend = type(byte_level_bpe()).from_str(byte_level_bpe().to_str())
    backend.add_tokens([AddedToken("</think>", normalized=False)])
    return load_backend(backend)


def output(tokenizer: Tokenizer, text: str, *, finish_reason: Any = "stop") -> CompletionOutput:
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    return CompletionOutput(index=0, text=text, token_ids=token_ids, finish_reason=finish_reason)


def form(**fields: Any) -> AnswerFormat:
    return AnswerFormat(
        **({"make_tool_parser": TOOL_FORMATS["hermes"].parser, "reasoning": REASONING_FORMATS["qwen3"]} | fields)
    )


def streamed(reader: AnswerReader, parts: list[CompletionOutput]) -> dict[str, Any]:
    """Join a stream as clients do, after the official client has read every chunk."""
    message: dict[str, Any] = {"content": "", "reasoning": "", "calls": []}
    for part in parts:
        for delta in reader.deltas(part):
            chunk = ChatChunk(id="i", created=0, model="m", choices=[ChatChunkChoice(0, delta)])
            read = ChatCompletionChunk.model_validate_json(msgspec.json.encode(chunk)).choices[0].delta
            message["content"] += read.content or ""
            message["reasoning"] += (read.model_extra or {}).get("reasoning_content", "")
            for call in read.tool_calls or []:
                assert call.function is not None
                if call.id:
                    assert (call.index, call.type, call.function.arguments) == (len(message["calls"]), "function", "")
                    message["calls"].append([call.function.name, ""])
                else:
                    assert call.function.name is None
                    message["calls"][call.index][1] += call.function.arguments or ""
    return message


def plain(message: AnswerMessage) -> dict[str, Any]:
    calls = [] if message.tool_calls is UNSET else message.tool_calls
    return {
        "content": message.content or "",
        "reasoning": "" if message.reasoning_content is UNSET else message.reasoning_content or "",
        "calls": [[call.function.name, call.function.arguments] for call in calls],
    }


TEXTS = [
    "Hello!",
    f"<think>\nhm\n</think>\n\n{CALL}",
    f"<think>Not {CALL} yet</think>First this.\n{CALL}\n{CALL}\nThen that.",
    "<think>never ends",
    f"{CALL}",
    "<tool_call>no call</tool_call>",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
@given(places=st.lists(st.integers(0, 200), max_size=10))
def test_stream_and_whole_answer_are_the_same(tokenizer: Tokenizer, text: str, places: list[int]) -> None:
    whole = AnswerReader(form(), tokenizer)
    message = plain(whole.message(output(tokenizer, text)))
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    parts = [
        CompletionOutput(
            index=0, text=text[start:end], token_ids=[], finish_reason="stop" if end == len(text) else None
        )
        for start, end in zip([0, *borders], borders, strict=False)
    ]
    reader = AnswerReader(form(), tokenizer)
    assert streamed(reader, parts) == message
    assert reader.num_calls == whole.num_calls == len(message["calls"])


def test_calls_come_only_after_thinking(tokenizer: Tokenizer) -> None:
    message = AnswerReader(form(), tokenizer).message(output(tokenizer, f"<think>Not {CALL} yet</think>{CALL}"))
    assert message.reasoning_content == message.reasoning == f"Not {CALL} yet"
    assert message.tool_calls is not UNSET
    assert len(message.tool_calls) == 1
    assert message.content is None


def test_reasoning_is_left_out_if_it_is_not_wanted_and_still_counted(tokenizer: Tokenizer) -> None:
    text = "<think>one two</think>three"
    for reader in (AnswerReader(form(includes_reasoning=False), tokenizer) for _ in range(2)):
        message = reader.message(output(tokenizer, text))
        assert (message.content, message.reasoning_content, message.reasoning) == ("three", UNSET, UNSET)
        assert reader.num_reasoning_tokens == len(tokenizer.encode("one two", add_special_tokens=False))
    stream = AnswerReader(form(includes_reasoning=False), tokenizer)
    assert streamed(stream, [output(tokenizer, text)])["reasoning"] == ""


@pytest.mark.parametrize(
    ("text", "is_open", "thought"),
    [
        ("<think>one two</think>three", False, "one two"),
        ("one two</think>three", True, "one two"),
        ("one two", True, "one two"),
        ("<think>", False, ""),
        ("one two</think>three", False, ""),
        ("</think>three", True, ""),
    ],
)
def test_reasoning_tokens_are_those_between_the_tags(
    tokenizer: Tokenizer, text: str, is_open: bool, thought: str
) -> None:
    reader = AnswerReader(form(is_open=is_open), tokenizer)
    reader.message(output(tokenizer, text))
    assert reader.num_reasoning_tokens == len(tokenizer.encode(thought, add_special_tokens=False))


def test_reasoning_tokens_are_counted_where_the_tags_are_no_tokens() -> None:
    tokenizer = load_backend(byte_level_bpe())
    reader = AnswerReader(form(is_open=True), tokenizer)
    for part in ("one ", "two</thi", "nk>three"):
        reader.deltas(output(tokenizer, part, finish_reason=None))
    assert reader.num_reasoning_tokens == len(tokenizer.encode("one two", add_special_tokens=False))


def test_with_parallel_calls_switched_off_only_the_first_is_given_out(tokenizer: Tokenizer) -> None:
    text = f"{CALL}\n{CALL}"
    reader = AnswerReader(form(allows_several_calls=False), tokenizer)
    message = reader.message(output(tokenizer, text))
    assert message.tool_calls is not UNSET
    assert len(message.tool_calls) == reader.num_calls == 1
    stream = AnswerReader(form(allows_several_calls=False), tokenizer)
    assert len(streamed(stream, [output(tokenizer, text)])["calls"]) == stream.num_calls == 1


def test_a_call_that_was_cut_off_is_text_in_a_whole_answer(tokenizer: Tokenizer) -> None:
    text = CALL[:50]
    reader = AnswerReader(form(), tokenizer)
    message = reader.message(output(tokenizer, text, finish_reason="length"))
    assert (message.content, message.tool_calls, reader.num_calls) == (text, UNSET, 0)


def test_ids_are_unique_and_of_the_form_that_templates_take(tokenizer: Tokenizer) -> None:
    ids = {new_call_id() for _ in range(100)} | {new_mistral_call_id() for _ in range(100)}
    assert len(ids) == 200
    assert re.fullmatch("[a-zA-Z0-9]{9}", new_mistral_call_id())  # what Mistral's chat templates demand


def test_arguments_stay_the_text_that_the_model_wrote(tokenizer: Tokenizer) -> None:
    odd = '{ "a":1,\n "b" : "é\\u00e9" }'
    text = f'<tool_call>{{"name": "f", "arguments": {odd}}}</tool_call>'
    (call,) = AnswerReader(form(), tokenizer).message(output(tokenizer, text)).tool_calls or []  # type: ignore[misc]
    assert call.function.arguments == odd
    assert json.loads(odd)["b"] == "éé"
