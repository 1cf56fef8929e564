"""The grammars of demanded calls, tried by llguidance: they take what the format's parser reads, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from octavo.api.openai.after_thought import after_thought
from octavo.api.openai.messages import Tool
from octavo.api.openai.tool_call_schema import call_or_form, enforced_format, tool_call_schema
from octavo.api.openai.tool_choice import NamedToolChoice
from octavo.engine.structured.grammar import write_grammar
from octavo.engine.structured.params import StructuredOutputsParams
from octavo.engine.structured.vocabulary import grammar_vocabulary
from octavo.errors import RequestError
from octavo.text import Tokenizer
from octavo.text.reasoning_parsers import REASONING_FORMATS
from octavo.text.tool_parsers import TOOL_FORMATS, parse_text
from tests.text.made_tokenizers import byte_level_bpe, load_backend

QWEN3 = REASONING_FORMATS["qwen3"]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    Tool.model_validate({"type": "function", "function": {"name": name, "parameters": parameters}})
    for name, parameters in (("weather", CITY), ("ping", None), ('odd"name', {}))
]
WEATHER = '"name": "weather", "{key}": {{"city": "Rome"}}'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    backend = type(byte_level_bpe()).from_str(byte_level_bpe().to_str())
    backend.add_special_tokens(["[TOOL_CALLS]", "<|endoftext|>"])
    made = load_backend(backend)
    end = made.token_id("<|endoftext|>")
    assert end is not None
    made.eos_token_ids = [end]
    return made


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Tokenizer) -> LLTokenizer:
    return grammar_vocabulary(tokenizer, tokenizer.vocab_size)


def takes(vocabulary: LLTokenizer, tokenizer: Tokenizer, form: StructuredOutputsParams | None, text: str) -> bool:
    """Whether an output may be exactly this text."""
    assert form is not None
    matcher = LLMatcher(vocabulary, write_grammar(form))
    assert not matcher.get_error()
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    return matcher.validate_tokens(token_ids) == len(token_ids) and bool(
        matcher.consume_tokens(token_ids) and matcher.is_accepting()
    )


WRITTEN = {
    "hermes": ("<tool_call>\n{{{}}}\n</tool_call>", "\n", "", "", "arguments"),
    "mistral": ("{{{}}}", ", ", "[TOOL_CALLS][", "]", "arguments"),
    "llama3_json": ("{{{}}}", "; ", "", "", "parameters"),
    "pythonic": ("{{{}}}", ", ", "[", "]", "parameters"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_grammar_takes_calls_in_the_models_own_format(
    tokenizer: Tokenizer, vocabulary: LLTokenizer, name: str
) -> None:
    def form(choice: Any = "required", **fields: Any) -> StructuredOutputsParams | None:
        return tool_call_schema(TOOLS, choice, TOOL_FORMATS[name], tokenizer=tokenizer, **fields)

    def accepts(demanded: StructuredOutputsParams | None, text: str) -> bool:
        return takes(vocabulary, tokenizer, demanded, text)

    call, separator, opening, closing, key = WRITTEN[name]
    weather = call.format(WEATHER.format(key=key))
    ping = call.format(f'"name": "ping", "{key}": {{}}')
    one, two = f"{opening}{weather}{closing}", f"{opening}{ping}{separator}{weather}{closing}"
    assert accepts(form(), one)
    assert accepts(form(), two)
    assert not accepts(form(parallel=False), two)
    assert not accepts(form(), "Hello")
    assert not accepts(form(), one.replace("Rome", 'Rome", "more": "'))
    assert not accepts(form(), one.replace("weather", "wether"))
    named = NamedToolChoice.model_validate({"type": "function", "function": {"name": "ping"}})
    assert accepts(form(named), f"{opening}{ping}{closing}")
    assert not accepts(form(named), one)
    read = parse_text(enforced_format(TOOL_FORMATS[name]).parser(), two)
    assert [(made.name, json.loads(made.arguments)) for made in read.calls] == [
        ("ping", {}),
        ("weather", {"city": "Rome"}),
    ]


def test_a_model_without_a_known_format_writes_an_array(tokenizer: Tokenizer, vocabulary: LLTokenizer) -> None:
    text = f"[{{{WEATHER.format(key='parameters')}}}]"
    assert takes(vocabulary, tokenizer, tool_call_schema(TOOLS, "required", None), text)
    assert len(parse_text(enforced_format(None).parser(), text).calls) == 1


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_where_no_call_is_demanded_nothing_is_enforced(choice: Any) -> None:
    assert tool_call_schema(TOOLS, choice, None) is None


def test_calls_come_behind_the_thought(tokenizer: Tokenizer, vocabulary: LLTokenizer) -> None:
    call = f"[{{{WEATHER.format(key='parameters')}}}]"
    opened = tool_call_schema(TOOLS, "required", None, reasoning=QWEN3, is_open=True)
    maybe = tool_call_schema(TOOLS, "required", None, reasoning=QWEN3)
    thought = "so </thin [ {} </think>"
    assert takes(vocabulary, tokenizer, opened, f"{thought}\n\n{call}")
    assert not takes(vocabulary, tokenizer, opened, call)
    assert takes(vocabulary, tokenizer, maybe, call)
    assert takes(vocabulary, tokenizer, maybe, f"<think>{thought}{call}")
    assert not takes(vocabulary, tokenizer, maybe, f"<think>{thought} more")


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        ({"json": CITY}, '{"city": "Rome"}', "{}"),
        ({"json": json.dumps(CITY)}, '{"city": "Rome"}', "{}"),
        ({"json_object": True}, '{"a": 1}', "[]"),
        ({"regex": "a/b|c\\/d"}, "a/b", "ab"),
        ({"choice": ["yes", "no"]}, "no", "maybe"),
    ],
)
def test_other_forms_hold_behind_the_thought(
    tokenizer: Tokenizer, vocabulary: LLTokenizer, form: dict[str, Any], right: str, wrong: str
) -> None:
    behind = after_thought(StructuredOutputsParams(**form), QWEN3, is_open=True)
    assert takes(vocabulary, tokenizer, behind, f"hm, {wrong} </think>\n\n{right}")
    assert not takes(vocabulary, tokenizer, behind, f"hm</think>{wrong}")
    assert not takes(vocabulary, tokenizer, behind, right)
    assert takes(vocabulary, tokenizer, after_thought(StructuredOutputsParams(**form), QWEN3, is_open=False), right)


def test_a_grammar_behind_a_thought_is_refused() -> None:
    form = StructuredOutputsParams(grammar='start: "a"')
    with pytest.raises(RequestError, match="grammar cannot be demanded behind reasoning"):
        after_thought(form, QWEN3, is_open=True)
    assert after_thought(form, QWEN3, is_open=False) is form


@pytest.mark.parametrize("name", ["hermes", "mistral", "llama3_json"])
def test_an_answer_calls_or_has_the_form(tokenizer: Tokenizer, vocabulary: LLTokenizer, name: str) -> None:
    form = StructuredOutputsParams(json={"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]})
    call, separator, opening, closing, key = WRITTEN[name]
    weather = call.format(WEATHER.format(key=key))
    one, two = f"{opening}{weather}{closing}", f"{opening}{weather}{separator}{weather}{closing}"

    def accepts(text: str, **fields: Any) -> bool:
        return takes(
            vocabulary, tokenizer, call_or_form(form, TOOLS, TOOL_FORMATS[name], tokenizer=tokenizer, **fields), text
        )

    assert accepts(one)
    assert accepts(two)
    assert not accepts(two, parallel=False)
    assert accepts('{"x": 7}')
    assert accepts(one.replace("city", "town"))  # any object
    assert not accepts(one.replace("weather", "wether"))
    assert not accepts("Hello")
    assert not accepts('{"x": "7"}')
    assert not accepts(one + '{"x": 7}')
    assert accepts('so </think>{"x": 7}', reasoning=QWEN3, is_open=True)
    assert accepts(f"so </think>\n\n{one}", reasoning=QWEN3, is_open=True)
    assert not accepts(one, reasoning=QWEN3, is_open=True)
    read = parse_text(TOOL_FORMATS[name].parser(), '{"x": 7}')
    assert (read.calls, read.content) == ([], '{"x": 7}')


def test_a_form_of_its_own_syntax_or_calls_without_a_layout_leave_no_choice() -> None:
    record = StructuredOutputsParams(json=CITY)
    assert call_or_form(StructuredOutputsParams(grammar='start: "a"'), TOOLS, TOOL_FORMATS["hermes"]) is None
    assert call_or_form(record, TOOLS, TOOL_FORMATS["pythonic"]) is None


def test_json_without_whitespace_has_none_behind_a_thought(tokenizer: Tokenizer, vocabulary: LLTokenizer) -> None:
    dense = after_thought(StructuredOutputsParams(json=CITY, disable_any_whitespace=True), QWEN3, is_open=True)
    assert takes(vocabulary, tokenizer, dense, 'so </think>{"city":"Rome"}')
    assert not takes(vocabulary, tokenizer, dense, 'so </think>{"city": "Rome"}')
