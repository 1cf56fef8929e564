"""JSON Schemas of many kinds, made from a seed. Each has values, and a random model reaches the end of one soon."""

from __future__ import annotations

import random
from typing import Any

_NAMES = ["id", "name", "Größe", "名前", "a b", 'quo"te', "back\\slash", "🙂", "x", "line\nbreak", "$ref", ""]
_FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "ipv6", "duration"]
_PATTERNS = [
    "^[a-f]{1,6}$",
    r"^\d{3}-\d{4}$",
    "^(red|green|blue)+$",
    "^[A-Z][a-z]{0,8}( [A-Z][a-z]{0,8})?$",
    "^[^0-9]{2,5}$",
    "ab",
]


def make_schema(seed: int) -> dict[str, Any]:
    """Return one schema; ``seed`` decides everything about it."""
    rng = random.Random(seed)
    schema = _schema(rng, depth=rng.choice((1, 2, 2, 3)))
    if rng.random() < 0.2:
        return {
            "$defs": {"part": _leaf(rng), "whole": schema},
            "type": "object",
            "properties": {"first": {"$ref": "#/$defs/part"}, "second": {"$ref": "#/$defs/whole"}},
            "required": ["first", "second"],
            "additionalProperties": False,
        }
    if rng.random() < 0.1:
        return {
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {
                        "value": schema,
                        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1},
                    },
                    "required": ["value"],
                    "additionalProperties": False,
                }
            },
            "$ref": "#/$defs/node",
        }
    return schema


def _schema(rng: random.Random, depth: int) -> dict[str, Any]:
    if depth == 0:
        return _leaf(rng)
    kind = rng.choice(("object", "object", "object", "array", "tuple", "anyOf", "map", "leaf"))
    if kind == "object":
        return _object(rng, depth)
    if kind == "array":
        low = rng.randrange(3)
        return {"type": "array", "items": _schema(rng, depth - 1), "minItems": low, "maxItems": low + rng.randrange(3)}
    if kind == "tuple":
        parts = [_schema(rng, depth - 1) for _ in range(rng.randrange(1, 3))]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
    if kind == "anyOf":
        return {"anyOf": [_schema(rng, depth - 1), _leaf(rng), {"type": "null"}]}
    if kind == "map":
        return {
            "type": "object",
            "properties": {"kind": {"const": rng.choice(_NAMES)}},
            "required": ["kind"],
            "additionalProperties": _leaf(rng),
            "maxProperties": 2,
        }
    return _leaf(rng)


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(_NAMES, rng.randrange(1, 4))
    return {
        "type": "object",
        "title": rng.choice(_NAMES),
        "properties": {name: _schema(rng, depth - 1) for name in names},
        "required": rng.sample(names, rng.randrange(len(names) + 1)),
        "additionalProperties": False,
    }


def _leaf(rng: random.Random) -> dict[str, Any]:
    low = rng.randrange(-500, 500)
    choices: list[dict[str, Any]] = [
        {"type": "integer", "minimum": low, "maximum": low + rng.randrange(1, 2000)},
        {"type": "integer", "exclusiveMinimum": low, "multipleOf": rng.choice((2, 5, 10)), "maximum": low + 100},
        {"type": "number", "minimum": low / 8, "exclusiveMaximum": low / 8 + 2.5},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "string", "minLength": rng.randrange(3), "maxLength": rng.randrange(3, 9)},
        {"type": "string", "pattern": rng.choice(_PATTERNS), "maxLength": 30},
        {"type": "string", "format": rng.choice(_FORMATS)},
        {"enum": [rng.choice(_NAMES), low, None, True, {"a": [1, rng.choice(_NAMES)]}, low / 4]},
        {"const": {"deep": [rng.choice(_NAMES)]}},
        {"type": ["integer", "null"], "minimum": 0, "maximum": 9},
        {"allOf": [{"type": "integer", "minimum": low}, {"maximum": low + 7}]},
        {"type": "string", "enum": [*rng.sample(_NAMES, 3)], "description": "one of three"},
    ]
    return rng.choice(choices)
