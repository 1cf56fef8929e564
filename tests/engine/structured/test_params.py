"""What structured outputs may be asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from octavo import SamplingParams, StructuredOutputsParams
from octavo.errors import RequestError


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"json": {"type": "object"}}, "json"),
        ({"json": '{"type": "object"}'}, "json"),
        ({"regex": "[0-9]+"}, "regex"),
        ({"choice": ["yes", "no"]}, "choice"),
        ({"grammar": 'start: "a"'}, "grammar"),
        ({"json_object": True, "disable_any_whitespace": True}, "json_object"),
        ({"structural_tag": '{"structures": [], "triggers": []}'}, "structural_tag"),
        ({"json": {}, "json_object": False}, "json"),
    ],
)
def test_one_constraint_is_taken_and_crosses_the_line(fields: dict[str, Any], constraint: str) -> None:
    params = SamplingParams(structured_outputs=StructuredOutputsParams(**fields))
    received = msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=SamplingParams)
    assert received.structured_outputs is not None
    assert received.structured_outputs.constraint == constraint
    assert received == params


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, "structured_outputs", "none is given"),
        ({"json_object": False}, "structured_outputs", "none is given"),
        ({"regex": "a", "choice": ["a"]}, "structured_outputs", "not regex and choice"),
        ({"json": 3}, "structured_outputs.json", "an object or a text"),
        ({"regex": 3}, "structured_outputs.regex", "a text"),
        ({"choice": []}, "structured_outputs.choice", "one or more"),
        ({"choice": ["a", ""]}, "structured_outputs.choice", "not empty"),
        ({"choice": "yes"}, "structured_outputs.choice", "list"),
        ({"json_object": "yes"}, "structured_outputs.json_object", "true or false"),
        ({"json": {}, "disable_any_whitespace": 1}, "structured_outputs.disable_any_whitespace", "true or false"),
    ],
)
def test_anything_else_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        StructuredOutputsParams(**fields)
    assert refused.value.param == param


def test_structured_outputs_do_not_go_with_ignore_eos() -> None:
    with pytest.raises(RequestError, match="complete") as refused:
        SamplingParams(structured_outputs=StructuredOutputsParams(regex="a"), ignore_eos=True)
    assert refused.value.param == "ignore_eos"
