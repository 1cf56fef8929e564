"""From what is asked for to the text of a grammar."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llguidance import LLMatcher

from octavo import StructuredOutputsParams
from octavo.engine.structured.grammar import MAX_GBNF_BYTES, MAX_GRAMMAR_BYTES, write_grammar
from octavo.errors import RequestError

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TAG: dict[str, Any] = {"begin": "<f>", "schema": SCHEMA, "end": "</f>"}


def grammar_of(**fields: Any) -> str:
    return write_grammar(StructuredOutputsParams(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"json": SCHEMA},
        {"json": SCHEMA, "disable_any_whitespace": True},
        {"json": SCHEMA, "whitespace_pattern": "[ ]{1,2}"},
        {"json_object": True},
        {"regex": "[a-z]+/[0-9]"},
        {"choice": ["yes", "é\n", 'quo"te\\', "/slash/", "🙂"]},
        {"grammar": 'start: "a" b\nb: "c" | b "d"'},
        {"grammar": 'root ::= "a" digits\ndigits ::= [0-9]+'},
        {"structural_tag": {"structures": [TAG], "triggers": ["<f"]}},
    ],
)
def test_every_constraint_becomes_a_grammar_that_compiles(fields: dict[str, Any]) -> None:
    assert LLMatcher.validate_grammar(grammar_of(**fields)) == ""


def test_a_schema_means_the_same_as_text_and_as_an_object() -> None:
    assert grammar_of(json=json.dumps(SCHEMA)) == grammar_of(json=SCHEMA)


def test_objects_are_closed_where_the_schema_is_silent_and_nowhere_else() -> None:
    open_objects = {"type": "object", "properties": {"a": {"additionalProperties": True, "properties": {"b": {}}}}}
    closed = json.loads(grammar_of(json=open_objects, disable_additional_properties=True))
    schema = closed["grammars"][0]["json_schema"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["a"]["additionalProperties"] is True


def test_a_trigger_that_is_a_special_token_stands_for_the_token() -> None:
    params = StructuredOutputsParams(structural_tag={"structures": [TAG], "triggers": ["<f>"]})
    assert write_grammar(params, special_tokens={"<f>"}) != write_grammar(params, special_tokens={"<g>"})


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"json": "{"}, "json", "not valid JSON"),
        ({"json": "[]"}, "json", "an object"),
        ({"json": {"const": float("nan")}}, "json", "not JSON compliant"),
        ({"json": nested(100_000)}, "json", "nested too deeply"),
        ({"json": {"enum": ["x" * MAX_GRAMMAR_BYTES]}}, "json", "larger than 512 KiB"),
        ({"json": " " * (MAX_GRAMMAR_BYTES + 1)}, "json", "larger than 512 KiB"),
        ({"regex": "x" * MAX_GRAMMAR_BYTES}, "regex", "larger than 512 KiB"),
        ({"choice": ["\ud800"]}, "choice", "not valid Unicode"),
        ({"grammar": 'root ::= "a'}, "grammar", "end of input"),
        ({"grammar": "root ::= " + "(" * 50_000}, "grammar", "nested too deeply"),
        ({"grammar": "root ::= " + " " * MAX_GBNF_BYTES}, "grammar", "64 KiB"),
        ({"structural_tag": "{"}, "structural_tag", "not valid JSON"),
        ({"structural_tag": {"type": "structural_tag", "format": {}}}, "structural_tag", "'structures' and 'triggers'"),
        ({"structural_tag": {"structures": [], "triggers": []}}, "structural_tag", "at least one structure"),
        ({"structural_tag": {"structures": [TAG], "triggers": [""]}}, "structural_tag", "triggers that are texts"),
        ({"structural_tag": {"structures": [{}], "triggers": ["<"]}}, "structural_tag", "'begin', 'schema' and 'end'"),
        ({"structural_tag": {"structures": [TAG | {"end": 1}], "triggers": ["<"]}}, "structural_tag", "must be texts"),
        ({"structural_tag": {"structures": [TAG], "triggers": ["["]}}, "structural_tag", "no trigger begins '<f>'"),
    ],
)
def test_what_is_no_grammar_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        grammar_of(**fields)
    assert refused.value.param == f"structured_outputs.{param}"
