"""The Jinja sandbox that chat templates run in: what transformers offers them, and no more.

A template comes with the model or from the operator, never from a request. It cannot reach Python's internals or change
what it is given, and huge results are refused; how long it computes is not bounded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_RENDERED_CHARS = 2**25
_MAX_POWER_BITS = 4096


class _GenerationBlock(Extension):
    """``{% generation %} … {% endgeneration %}`` marks text for training; here only the text matters."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own declaration)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox with transformers' filters and functions, without operators that build huge values."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        del self.globals["lipsum"]

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Compute ``left * right`` or ``left ** right``, unless the result is out of all proportion."""
        if operator == "**" and isinstance(left, int) and left.bit_length() * right > _MAX_POWER_BITS:
            raise SecurityError(f"a power is longer than {_MAX_POWER_BITS} bits")
        if operator == "*" and _repeated_length(left, right) > MAX_RENDERED_CHARS:
            raise SecurityError(f"a repetition is longer than {MAX_RENDERED_CHARS}")
        operate: Callable[[Any, Any], Any] = self.binop_table[operator]
        return operate(left, right)


def _repeated_length(left: Any, right: Any) -> int:
    for sequence, count in (left, right), (right, left):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            return len(sequence) * count
    return 0


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, which models were not trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
