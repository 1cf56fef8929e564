"""The grammars of answers that must call tools, or may call them instead of having a form."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from octavo.api.openai.after_thought import JSON_STYLE, answer_rule, thought_rules
from octavo.api.openai.messages import FunctionDefinition, Tool
from octavo.api.openai.tool_choice import NamedToolChoice
from octavo.engine.structured.params import StructuredOutputsParams
from octavo.text import Tokenizer
from octavo.text.reasoning_parsers import ReasoningFormat
from octavo.text.tool_parsers import JSON_ARRAY, CallLayout, ToolFormat


def enforced_format(tool_format: ToolFormat | None) -> ToolFormat:
    """Return the format in which calls are demanded of a model that writes them in ``tool_format``."""
    return tool_format if tool_format is not None and tool_format.layout is not None else JSON_ARRAY


def tool_call_schema(
    tools: Sequence[Tool],
    tool_choice: str | NamedToolChoice | None,
    tool_format: ToolFormat | None,
    *,
    parallel: bool = True,
    reasoning: ReasoningFormat | None = None,
    is_open: bool = False,
    tokenizer: Tokenizer | None = None,
) -> StructuredOutputsParams | None:
    """Return what holds an answer to the tool choice: only calls of the tools, with arguments that fit their schemas.

    The calls are demanded in the model's own format, so that ``enforced_format`` reads them.

    Args:
        parallel: whether several calls are allowed.
        reasoning: how the model may reason before it calls.
        is_open: whether the answer begins in the middle of reasoning.
        tokenizer: tells which markers are special tokens; without it none is.

    Returns:
        None if the choice demands no call.
    """
    if isinstance(tool_choice, NamedToolChoice):
        functions = [tool.function for tool in tools if tool.function.name == tool_choice.function.name][:1]
        parallel = False
    elif tool_choice == "required":
        functions = [tool.function for tool in tools]
    else:
        return None
    form = enforced_format(tool_format)
    assert form.layout is not None
    thought, *rules = thought_rules(reasoning, is_open=is_open) if reasoning is not None else ("",)
    rules = [
        f"start: {thought}calls",
        *rules,
        *_call_rules(form.layout, form.markers, parallel, tokenizer),
        *_body_rules(functions, form.layout.arguments_key),
    ]
    return StructuredOutputsParams(grammar="\n".join(rules) + "\n")


def call_or_form(
    form: StructuredOutputsParams,
    tools: Sequence[Tool],
    tool_format: ToolFormat,
    *,
    parallel: bool = True,
    reasoning: ReasoningFormat | None = None,
    is_open: bool = False,
    tokenizer: Tokenizer | None = None,
) -> StructuredOutputsParams | None:
    """Return what holds an answer to calls of the tools, or else to a form.

    Arguments may be any objects, as they may where the model calls unasked: a schema that no grammar can hold is no
    reason to refuse a request that demands no call.

    Args:
        parallel, reasoning, is_open, tokenizer: as for ``tool_call_schema``.

    Returns:
        None if the form, or calls in this format, cannot be a part of a grammar.
    """
    answer = answer_rule(form)
    if answer is None or tool_format.layout is None:
        return None
    thought, *rules = thought_rules(reasoning, is_open=is_open) if reasoning is not None else ("",)
    rules = [
        f"start: {thought}(calls | answer)",
        *rules,
        f"answer: {answer}",
        *_call_rules(tool_format.layout, tool_format.markers, parallel, tokenizer),
        f"body: %json {json.dumps(_any_call(tools, tool_format.layout.arguments_key), ensure_ascii=False)}",
    ]
    return StructuredOutputsParams(grammar="\n".join(rules) + "\n")


def _call_rules(layout: CallLayout, markers: Sequence[str], parallel: bool, tokenizer: Tokenizer | None) -> list[str]:
    """Return the rules of calls, whose objects are ``body``."""

    def literal(text: str) -> str:
        return _literal(text, markers, tokenizer)

    more = f" ({literal(layout.separator)} call)*" if parallel else ""
    return [
        _rule("calls", literal(layout.opening), f"call{more}", literal(layout.closing)),
        _rule("call", literal(layout.begin), "body", literal(layout.end)),
    ]


def _body_rules(functions: Sequence[FunctionDefinition], arguments_key: str) -> list[str]:
    """Return the rules of a call's object, with arguments that fit the schema of the function.

    Each schema has a rule of its own, so that its references begin at its own root.
    """
    rules = ["body: " + " | ".join(f"body_{index}" for index in range(len(functions)))]
    for index, function in enumerate(functions):
        head = f'{{"name": {json.dumps(function.name, ensure_ascii=False)}, "{arguments_key}": '
        rules.append(_rule(f"body_{index}", _quoted(head), f"arguments_{index}", _quoted("}")))
        rules.append(f"arguments_{index}: %json {json.dumps(_arguments_schema(function), ensure_ascii=False)}")
    return rules


def _any_call(tools: Sequence[Tool], arguments_key: str) -> dict[str, Any]:
    """Return the schema of a call's object with any arguments.

    It is a schema as a whole, so that an answer in JSON may begin with the same characters.
    """
    names = list(dict.fromkeys(tool.function.name for tool in tools))
    return {
        "type": "object",
        "properties": {"name": {"enum": names}, arguments_key: {"type": "object"}},
        "required": ["name", arguments_key],
        "additionalProperties": False,
        "x-guidance": JSON_STYLE,
    }


def _rule(name: str, *parts: str) -> str:
    return f"{name}: " + " ".join(part for part in parts if part)


def _literal(text: str, markers: Sequence[str], tokenizer: Tokenizer | None) -> str:
    """Write a text as a grammar's literal; in it, markers that are special tokens are told by their ids."""
    parts = re.split("(" + "|".join(map(re.escape, markers)) + ")", text) if markers else [text]
    return " ".join(_token_or_text(part, tokenizer) for part in parts if part)


def _token_or_text(text: str, tokenizer: Tokenizer | None) -> str:
    token_id = tokenizer.token_id(text) if tokenizer is not None else None
    if tokenizer is None or token_id is None or token_id not in tokenizer.special_token_ids:
        return _quoted(text)
    return f"<[{token_id}]>"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _arguments_schema(function: FunctionDefinition) -> dict[str, Any]:
    """Return the schema of a function's arguments: an object, and without a schema one with nothing in it."""
    schema = {"properties": {}, "additionalProperties": False} if function.parameters is None else function.parameters
    return {"type": "object", **schema, "x-guidance": JSON_STYLE}
