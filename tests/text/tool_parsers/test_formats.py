"""Calls written as each format has them are read back, however the text is cut; the oracle is what was written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.config import ServerConfig
from octavo.config.fields import settings_of
from octavo.text.tool_parsers import JSON_ARRAY, TOOL_FORMATS, Call, ToolFormat, detect_tool_format, parse_text
from tests.text.tool_parsers.reading import CALLS, PLACES, Read, cut, read

Calls = Sequence[tuple[str, dict[str, Any]]]
FORMATS = {**TOOL_FORMATS, "json_array": JSON_ARRAY}


def _object(name: str, arguments: dict[str, Any], key: str = "arguments") -> str:
    return json.dumps({"name": name, key: arguments}, ensure_ascii=False)


def _hermes(calls: Calls) -> str:
    return "\n".join(f"<tool_call>\n{_object(*call)}\n</tool_call>" for call in calls)


def _llama(calls: Calls) -> str:
    return "; ".join(_object(*call, "parameters") for call in calls)


def _mistral(calls: Calls) -> str:
    return f"[TOOL_CALLS] [{', '.join(_object(*call) for call in calls)}]"


def _newer_mistral(calls: Calls) -> str:
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{json.dumps(arguments)}" for name, arguments in calls)


def _pythonic(calls: Calls) -> str:
    written = (f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" for name, given in calls)
    return f"[{', '.join(written)}]"


def _array(calls: Calls) -> str:
    return f"[{', '.join(_object(*call, 'parameters') for call in calls)}]"


WRITERS: list[tuple[str, Callable[[Calls], str]]] = [
    ("hermes", _hermes),
    ("llama3_json", _llama),
    ("mistral", _mistral),
    ("mistral", _newer_mistral),
    ("pythonic", _pythonic),
    ("json_array", _array),
]


@pytest.mark.parametrize(("form", "write"), WRITERS)
@given(calls=CALLS, places=PLACES)
def test_what_was_written_is_read_however_it_is_cut(form: str, write: Any, calls: Calls, places: list[int]) -> None:
    if form == "pythonic":  # keywords of Python cannot be written as names
        calls = [(f"f_{name}", {f"k_{key}": value for key, value in given.items()}) for name, given in calls]
    text = write(calls)
    result = read(FORMATS[form].parser(), cut(text, places))
    assert [(name, json.loads(arguments)) for name, arguments in result.calls] == list(calls)
    assert result.content == ""
    assert all(result.whole)
    assert [(call.name, call.arguments) for call in parse_text(FORMATS[form].parser(), text).calls] == result.calls


ODD_PIECES = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<tool_", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<|python_start|>"),
        *('{"name": "f"', ', "arguments": ', ', "parameters": ', '{"a": 1}', "}", "{", "[", "]", "f(", "x=1", ")", ","),
        *('"', "\\", " ", "\n", "text", ";", "'", ":", "你", "[f(x='a')]", '{"name": "f", "arguments": {}}', "g", "-"),
    ]
)


@pytest.mark.parametrize("form", FORMATS)
@given(text=st.lists(ODD_PIECES, max_size=14).map("".join), places=PLACES)
def test_any_text_gives_the_same_however_it_is_cut(form: str, text: str, places: list[int]) -> None:
    whole = read(FORMATS[form].parser(), [text])
    assert read(FORMATS[form].parser(), cut(text, places)) == whole
    assert read(FORMATS[form].parser(), list(text)) == whole
    for (_, arguments), is_whole in zip(whole.calls, whole.whole, strict=True):
        assert not is_whole or isinstance(json.loads(arguments), dict)


@pytest.mark.parametrize("form", FORMATS)
@given(text=st.text(alphabet="ab {}[]<>_|:,\"'\n你🙂", max_size=40))
def test_text_without_calls_is_content_as_it_is(form: str, text: str) -> None:
    assert read(FORMATS[form].parser(), list(text)) == Read(content=text)


BROKEN = {
    "hermes": [
        "<tool_call>\nnot json\n</tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {"a": }}\n</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": 1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": "cut off',
        "<tool_call>",
        "<tool_call>{" + '"a": {' * 1000,
    ],
    "llama3_json": ['{"name": "f"', '{"name": "f", "parameters": {"a": 1', '{"city": "Rome"}', '{"name": 1}', "{}"],
    "mistral": ['[TOOL_CALLS] [{"name": "f", "arguments": {"a": t', "[TOOL_CALLS]", "[TOOL_CALLS][1]", "[TOOL_CALLS]f"],
    "pythonic": ["[1, 2]", "[f(1)]", "[f(x=y)]", "[f(x=1", "[f(x=1e999)]", "[f(x=b'a')]", "[f(x={1: 2})]", "[3f(x=1)]"],
    "json_array": ["[1]", '[{"name": "f", "parameters": {', "{}", "[]"],
}  # fmt: skip


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in BROKEN.items() for text in texts])
def test_a_broken_call_is_content_and_nothing_of_it_is_lost(form: str, text: str) -> None:
    parsed = parse_text(FORMATS[form].parser(), text)
    assert parsed.calls == []
    assert parsed.content == text


def test_a_call_that_breaks_off_in_a_stream_ends_as_not_whole() -> None:
    result = read(FORMATS["hermes"].parser(), ['<tool_call>{"name": "f", "arguments": {"a": ', '"cut'])
    assert result.calls == [("f", '{"a": "cut')]
    assert result.whole == [False]


def test_the_name_comes_before_the_arguments_are_complete() -> None:
    parser = FORMATS["hermes"].parser()
    assert parser.push('Now: <tool_call>\n{"name": "f", "argu') != []
    events = parser.push('ments": {"text": "long')
    assert [type(event).__name__ for event in events] == ["CallStart", "Arguments"]
    assert [type(event).__name__ for event in parser.push(" text")] == ["Arguments"]


def test_an_answer_in_json_is_not_held_back_by_the_llama_format() -> None:
    parser = FORMATS["llama3_json"].parser()
    assert "".join(event.text for event in parser.push('{"city": "Ro')) == '{"city": "Ro'  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("form", "text", "content", "names"),
    [
        ("hermes", 'Let me see.\n<tool_call>{"name": "f", "arguments": {}}</tool_call>', "Let me see.", ["f"]),
        ("hermes", 'a\n<tool_call>{"name": "f", "arguments": {}}</tool_call>\nb', "a\nb", ["f"]),
        ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', "", ["f"]),
        ("hermes", '<tool_call>{"name": "f"}</tool_call>', "", ["f"]),
        ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", ["f"]),
        ("hermes", '<tool_call>{"name": "f", "arguments": {}, "id": "x"}</tool_call>', "", ["f"]),
        ("hermes", '<tool_call>{"name": "f", "arguments": {}}}</tool_call>', "", ["f"]),
        ("hermes", '<tool_call>{"name": "f", "arguments": {}</tool_call>', "", ["f"]),
        ("hermes", '<tool_call>{"name": "f", "arguments": {}}', "", ["f"]),
        ("hermes", 'x <tool_call>bad <tool_call>{"name": "f", "arguments": {}}', "x <tool_call>bad", ["f"]),
        ("llama3_json", '<|python_tag|>{"name": "f", "parameters": {}}', "", ["f"]),
        ("llama3_json", '{"type": "function", "name": "f", "parameters": {}}', "", ["f"]),
        ("llama3_json", '{"type": "function", "function": {"name": "f", "parameters": {}}}', "", ["f"]),
        ("llama3_json", '{"name": "f", "parameters": {}}; done', "; done", ["f"]),
        ("mistral", 'Sure.[TOOL_CALLS]f[CALL_ID]abc123def[ARGS]{"a": 1}', "Sure.", ["f"]),
        ("mistral", '[TOOL_CALLS]f{"a": 1}[TOOL_CALLS]g{}', "", ["f", "g"]),
        ("pythonic", "<|python_start|>[f(x='it\\'s', y=[1, (2, 3)], z=true), g()]<|python_end|>", "", ["f", "g"]),
        ("pythonic", r"[f(pattern='\d+')]", "", ["f"]),
    ],
)
def test_what_models_write_besides_the_letter_of_the_format(
    form: str, text: str, content: str, names: list[str]
) -> None:
    parsed = parse_text(FORMATS[form].parser(), text)
    assert parsed.content == content
    assert [call.name for call in parsed.calls] == names
    assert all(isinstance(json.loads(call.arguments), dict) for call in parsed.calls)


def test_values_of_pythonic_calls_become_json() -> None:
    text = "[f(a=-1.5, b=None, c={'k': [True, false, null]}, d=\"x, )\")]"
    assert parse_text(FORMATS["pythonic"].parser(), text).calls == [
        Call("f", '{"a": -1.5, "b": null, "c": {"k": [true, false, null]}, "d": "x, )"}')
    ]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("piece", ["<tool_call>{", "[TOOL_CALLS][{", '{"name": ', "[f(x=[", "-" * 50, '"\\'])
def test_hostile_text_is_read_in_bounded_time(form: str, piece: str) -> None:
    text = "[f(x=" * (piece[0] == "-") + piece * (40_000 // len(piece))
    assert parse_text(FORMATS[form].parser(), text).content == text


def test_templates_tell_their_format() -> None:
    assert _detected("{{ '<tool_call>' }}") == "hermes"
    assert _detected("<tool_call><function=name>") is None
    assert _detected("{{ '[TOOL_CALLS]' }}") == "mistral"
    assert _detected('in the format {"name": function name, "parameters": dictionary} {{ "<|python_tag|>" }}') == (
        "llama3_json"
    )
    assert _detected("[func_name1(params_name1=value)]") == "pythonic"
    assert _detected("{{ messages }}") is None


def _detected(template: str) -> str | None:
    form: ToolFormat | None = detect_tool_format(template)
    return form.name if form is not None else None


def test_the_settings_name_all_formats() -> None:
    assert set(settings_of(ServerConfig)["tool_call_parser"].choices) == set(TOOL_FORMATS)
