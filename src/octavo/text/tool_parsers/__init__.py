"""Tool calls in the text of a model's answer, one module a format, and which format a chat template asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from octavo.text.tool_parsers import hermes, json_array, llama3_json, mistral, pythonic
from octavo.text.tool_parsers.base import (
    Arguments,
    Call,
    CallEnd,
    CallStart,
    Content,
    Event,
    ParsedText,
    ToolParser,
    parse_text,
)

__all__ = [
    "JSON_ARRAY",
    "TOOL_FORMATS",
    "Arguments",
    "Call",
    "CallEnd",
    "CallLayout",
    "CallStart",
    "Content",
    "Event",
    "ParsedText",
    "ToolFormat",
    "ToolParser",
    "detect_tool_format",
    "parse_text",
]


@dataclass(frozen=True, slots=True)
class CallLayout:
    """How a format writes calls, to the letter: ``opening``, calls with ``separator`` between them, ``closing``.

    Each call is ``begin``, a JSON object of its name and its arguments, and ``end``.
    """

    opening: str = ""
    begin: str = ""
    arguments_key: str = "arguments"
    end: str = ""
    separator: str = ", "
    closing: str = ""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """A way of writing calls.

    Attributes:
        name: as ``--tool-call-parser`` has it.
        parser: makes a parser of one answer.
        markers: what begins a call or ends it. Where a tokenizer has one as a special token, that must stay in the
            text.
        signs: a chat template with one of these texts asks for calls in this format.
        counter_signs: but not if it has one of these.
        layout: how calls are written where they are demanded.
        needs_short_ids: whether chat templates want calls to have ids of nine letters and digits.
    """

    name: str
    parser: type[ToolParser]
    markers: tuple[str, ...]
    signs: tuple[str, ...]
    counter_signs: tuple[str, ...] = ()
    layout: CallLayout | None = None
    needs_short_ids: bool = False


_FORMATS = (
    ToolFormat(
        "hermes",
        hermes.HermesParser,
        (hermes.BEGIN, hermes.END),
        signs=(hermes.BEGIN,),
        counter_signs=("<function=", "<arg_key>"),
        layout=CallLayout(begin=f"{hermes.BEGIN}\n", end=f"\n{hermes.END}", separator="\n"),
    ),
    ToolFormat(
        "mistral",
        mistral.MistralParser,
        mistral.MARKERS,
        signs=(mistral.BEGIN,),
        layout=CallLayout(opening=f"{mistral.BEGIN}[", closing="]"),
        needs_short_ids=True,
    ),
    ToolFormat(
        "pythonic",
        pythonic.PythonicParser,
        (pythonic.PYTHON_START, pythonic.PYTHON_END),
        signs=("[func_name1(", pythonic.PYTHON_START),
    ),
    ToolFormat(
        "llama3_json",
        llama3_json.Llama3JsonParser,
        (llama3_json.PYTHON_TAG,),
        signs=(llama3_json.PYTHON_TAG, '{"name": function name, "parameters":'),
        layout=CallLayout(arguments_key="parameters", separator="; "),
    ),
)

JSON_ARRAY = ToolFormat(
    "json_array",
    json_array.JsonArrayParser,
    (),
    signs=(),
    layout=CallLayout(opening="[", arguments_key="parameters", closing="]"),
)
"""For calls that are demanded of a model whose own format has no layout, or is not known."""

TOOL_FORMATS: Mapping[str, ToolFormat] = {known.name: known for known in _FORMATS}
"""Formats by name, in the order in which templates are tried against them."""


def detect_tool_format(template: str) -> ToolFormat | None:
    """Return the format in which a chat template writes calls; None if it is none of ours."""
    for known in _FORMATS:
        if any(sign in template for sign in known.signs):
            return None if any(sign in template for sign in known.counter_signs) else known
    return None
