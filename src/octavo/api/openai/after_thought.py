"""A demanded form of the answer that begins only where the reasoning before it ends."""

from __future__ import annotations

import json
import re
from typing import Any

from octavo.engine.structured.params import StructuredOutputsParams
from octavo.errors import RequestError
from octavo.text.reasoning_parsers import ReasoningFormat

# As models see JSON in their prompts; a grammar that allows any white space invites them to write nothing else.
JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_DENSE_JSON_STYLE = {"whitespace_flexible": False}


def thought_rules(reasoning: ReasoningFormat, *, is_open: bool) -> tuple[str, str]:
    """Return what stands in a grammar's start rule before the answer, and the rule that this needs.

    Args:
        is_open: whether the answer begins in the middle of reasoning; else it may begin with some.
    """
    end = re.escape(reasoning.end).replace("/", r"\/")
    rule = f"thought[lazy]: /(?s:.*){end}/"
    if is_open:
        return r"thought /\s+/? ", rule
    return rf"({json.dumps(reasoning.begin)} thought /\s+/?)? ", rule


def after_thought(
    form: StructuredOutputsParams, reasoning: ReasoningFormat, *, is_open: bool
) -> StructuredOutputsParams:
    """Return the form that lets the model reason first.

    Raises:
        RequestError: the form cannot be put behind a thought, and there is one.
    """
    answer = answer_rule(form)
    if answer is None and is_open:
        raise RequestError(
            f"{form.constraint} cannot be demanded behind reasoning here: use json, regex or choice without further "
            "options, or switch the model's thinking off",
            param=f"structured_outputs.{form.constraint}",
        )
    if answer is None:
        return form
    thought, rule = thought_rules(reasoning, is_open=is_open)
    return StructuredOutputsParams(grammar=f"start: {thought}answer\n{rule}\nanswer: {answer}\n")


def answer_rule(form: StructuredOutputsParams) -> str | None:
    """Write a form as the right side of a grammar's rule; None if that is not possible."""
    if form.disable_additional_properties or form.whitespace_pattern is not None:
        return None
    style = _DENSE_JSON_STYLE if form.disable_any_whitespace else JSON_STYLE
    match form.constraint:
        case "json":
            schema = _read_schema(form.json)
            return None if schema is None else "%json " + json.dumps({**schema, "x-guidance": style})
        case "json_object":
            return "%json " + json.dumps({"type": "object", "x-guidance": style})
        case "regex":
            return "/" + re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", form.regex or "", flags=re.DOTALL) + "/"
        case "choice":
            return " | ".join(json.dumps(text, ensure_ascii=False) for text in form.choice or [])
    return None


def _read_schema(schema: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if not isinstance(schema, str):
        return schema
    try:
        read = json.loads(schema)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None
