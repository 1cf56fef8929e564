"""From the form that a request asks for to the text of a grammar, as llguidance reads it. No tokens, no torch."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

from octavo.errors import RequestError

if TYPE_CHECKING:
    from octavo.engine.structured.params import StructuredOutputsParams

MAX_GRAMMAR_BYTES = 512 * 1024
MAX_GBNF_BYTES = 64 * 1024
# A space, or a new line with its indentation: without bounds, a model that has lost its way writes whitespace for ever.
_WHITESPACE = r" |\n{1,2}[ \t]{0,20}"
_STRUCTURE_FIELDS = {"begin", "schema", "end"}


def write_grammar(params: StructuredOutputsParams, special_tokens: Collection[str] = ()) -> str:
    """Return the grammar of a request; equal requests have equal grammars.

    Args:
        special_tokens: texts that are tokens of their own; a trigger of a structural tag that is one of them stands for
            that token.

    Raises:
        RequestError: the constraint is no JSON, is nested too deeply, or is too large; ``param`` names it.
    """
    name = params.constraint
    try:
        grammar = _write(params, special_tokens)
        num_bytes = len(grammar.encode())
    except RecursionError:
        raise _refused(name, "it is nested too deeply") from None
    except UnicodeEncodeError:
        raise _refused(name, "it is not valid Unicode") from None
    if num_bytes > MAX_GRAMMAR_BYTES:
        raise _refused(name, f"it is larger than {MAX_GRAMMAR_BYTES // 1024} KiB")
    return grammar


def _write(params: StructuredOutputsParams, special_tokens: Collection[str]) -> str:
    from llguidance import LLMatcher

    match params.constraint:
        case "json":
            return _json_grammar(_read_schema(params.json), params)
        case "json_object":
            return _json_grammar({"type": "object"}, params)
        case "regex":
            return LLMatcher.grammar_from_regex(cast("str", params.regex))
        case "choice":
            texts = " | ".join(json.dumps(text, ensure_ascii=False) for text in params.choice or [])
            return LLMatcher.grammar_from_lark(f"start: {texts}")
        case "grammar":
            return LLMatcher.grammar_from_lark(_read_grammar(cast("str", params.grammar)))
        case _:
            return _structural_tag_grammar(params, special_tokens)


def _json_grammar(schema: Any, params: StructuredOutputsParams) -> str:
    from llguidance import LLMatcher

    try:
        text = json.dumps(_prepared(schema, params), allow_nan=False)
    except ValueError as error:
        raise _refused("json", str(error)) from None
    if len(text) > MAX_GRAMMAR_BYTES:
        raise _refused("json", f"it is larger than {MAX_GRAMMAR_BYTES // 1024} KiB")
    try:
        return LLMatcher.grammar_from_json_schema(text)
    except ValueError as error:
        raise _refused("json", str(error)) from None


def _prepared(schema: Any, params: StructuredOutputsParams) -> Any:
    """Return a schema with the options under which it is compiled written into it."""
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    if not isinstance(schema, dict):
        raise _refused("json", f"a JSON Schema is an object, not {schema!r:.80}")
    if params.disable_additional_properties:
        schema = _close_objects(schema)
    options = {
        "whitespace_flexible": not params.disable_any_whitespace,
        "whitespace_pattern": None if params.disable_any_whitespace else params.whitespace_pattern or _WHITESPACE,
    }
    return schema | {"x-guidance": options}


def _close_objects(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_close_objects(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _close_objects(value) for key, value in schema.items()}
    if "properties" in closed and not {"additionalProperties", "patternProperties"} & closed.keys():
        closed["additionalProperties"] = False
    return closed


def _read_schema(schema: str | dict[str, Any] | None) -> Any:
    return _read_json(schema, "json") if isinstance(schema, str) else schema


def _read_json(text: str, name: str) -> Any:
    if len(text) > MAX_GRAMMAR_BYTES:
        raise _refused(name, f"it is larger than {MAX_GRAMMAR_BYTES // 1024} KiB")
    try:
        return json.loads(text)
    except ValueError as error:
        raise _refused(name, f"it is not valid JSON: {error}") from None


def _read_grammar(text: str) -> str:
    """Return a Lark grammar as it is, and one in GBNF in the syntax of Lark."""
    if "::=" not in text:
        return text
    from llguidance.gbnf_to_lark import any_to_lark

    if len(text) > MAX_GBNF_BYTES:
        raise _refused("grammar", f"in GBNF it may have {MAX_GBNF_BYTES // 1024} KiB at most")
    try:
        return any_to_lark(text)
    except RecursionError:
        raise
    except Exception as error:  # the converter raises plain Exception
        raise _refused("grammar", str(error)) from None


def _structural_tag_grammar(params: StructuredOutputsParams, special_tokens: Collection[str]) -> str:
    from llguidance import LLMatcher, StructTag

    given = params.structural_tag
    tag = _read_json(given, "structural_tag") if isinstance(given, str) else given
    if (
        not isinstance(tag, dict)
        or not isinstance(tag.get("structures"), list)
        or not isinstance(tag.get("triggers"), list)
    ):
        raise _refused("structural_tag", "it must be an object with the lists 'structures' and 'triggers'")
    structures, triggers = tag["structures"], tag["triggers"]
    if not structures or not all(isinstance(trigger, str) and trigger for trigger in triggers):
        raise _refused("structural_tag", "it needs at least one structure, and triggers that are texts")
    tags = []
    for structure in structures:
        if not isinstance(structure, dict) or structure.keys() != _STRUCTURE_FIELDS:
            raise _refused("structural_tag", "a structure has 'begin', 'schema' and 'end', nothing else")
        begin, end = structure["begin"], structure["end"]
        if not isinstance(begin, str) or not isinstance(end, str):
            raise _refused("structural_tag", "'begin' and 'end' of a structure must be texts")
        trigger = next((trigger for trigger in triggers if begin.startswith(trigger)), None)
        if trigger is None:
            raise _refused("structural_tag", f"no trigger begins {begin!r:.80}")
        grammar = json.dumps(_prepared(structure["schema"], params))
        tags.append(StructTag(trigger=trigger, begin=begin, grammar=grammar, end=end))
    is_special = any(tag.trigger in special_tokens for tag in tags)
    return LLMatcher.grammar_from_lark(StructTag.to_grammar(tags, assume_special=is_special))


def _refused(name: str, why: str) -> RequestError:
    return RequestError(f"the output cannot be held to this {name}: {why}", param=f"structured_outputs.{name}")
