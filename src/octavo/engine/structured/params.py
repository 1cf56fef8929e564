"""What a request asks of the form of its output: vLLM's ``StructuredOutputsParams``."""

from __future__ import annotations

from typing import Any

import msgspec

from octavo.errors import RequestError

CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")


class StructuredOutputsParams(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The form that an output must have. Exactly one of the first six is given.

    Attributes:
        json: a JSON Schema, as an object or as text; the output is a JSON value that validates against it.
        regex: a regular expression that matches the whole output (Rust's syntax: no look-around, no references back).
        choice: texts, one of which is the output.
        grammar: a context-free grammar in the Lark syntax of llguidance, or in GBNF.
        json_object: the output is any JSON object.
        structural_tag: JSON text (or an object) of structures, triggers and schemas: free text, in which each trigger
            begins a tagged part with a schema of its own.
        disable_any_whitespace: write JSON without whitespace between its parts.
        disable_additional_properties: schemas that do not say otherwise allow named properties only.
        whitespace_pattern: regular expression of the whitespace between the parts of JSON.

    Raises:
        RequestError: none or several of the constraints are given, or one has the wrong type.
    """

    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | dict[str, Any] | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in CONSTRAINTS if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            found = f"not {' and '.join(given)}" if given else "but none is given"
            raise RequestError(
                f"structured outputs need exactly one of {', '.join(CONSTRAINTS)}, {found}", param="structured_outputs"
            )
        _check_type("json", self.json, str | dict)
        _check_type("structural_tag", self.structural_tag, str | dict)
        _check_type("json_object", self.json_object, bool)
        for name in ("regex", "grammar", "whitespace_pattern"):
            _check_type(name, getattr(self, name), str)
        for name in ("disable_any_whitespace", "disable_additional_properties"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, "true or false", getattr(self, name))
        if self.choice is not None and not _is_choice(self.choice):
            raise _wrong("choice", "a list of one or more texts that are not empty", self.choice)

    @property
    def constraint(self) -> str:
        """The name of the constraint that is given."""
        return next(name for name in CONSTRAINTS if getattr(self, name) not in (None, False))


def _is_choice(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text for text in value)


def _check_type(name: str, value: object, expected: Any) -> None:
    if value is not None and not isinstance(value, expected):
        words = {str: "a text", bool: "true or false"}.get(expected, "an object or a text")
        raise _wrong(name, words, value)


def _wrong(name: str, expected: str, value: object) -> RequestError:
    return RequestError(f"{name} must be {expected}, not {value!r:.80}", param=f"structured_outputs.{name}")
