"""Pythonic: the whole answer is a list of calls, ``[get_weather(city="Rome"), …]``, as small Llamas write them."""

from __future__ import annotations

import ast
import json
import re
import warnings

from octavo.text.text_source import MAX_JSON_DEPTH, Reading
from octavo.text.tool_parsers.base import ToolParser

PYTHON_START = "<|python_start|>"
PYTHON_END = "<|python_end|>"
_NAME = re.compile(r"[A-Za-z0-9_.]")
_QUOTES = ("'", '"')
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_JSON_NAMES = {"true": True, "false": False, "null": None}


class PythonicParser(ToolParser):
    """The list stands at the beginning of the answer, or behind the tag that begins code. Values are literals.

    Arguments go out one by one, as JSON.
    """

    def _read(self) -> Reading[None]:
        yield
        source = self._source
        yield from source.skip_spaces()
        self._write(source.release())
        if (yield from source.peek()) != "[" and not (yield from self._read_content((PYTHON_START,))):
            return
        while True:
            begin = source.position
            yield from source.skip_spaces()
            has_calls = (yield from source.take("[")) and (yield from self._read_calls())
            self._give_back(0 if has_calls else max(begin, 1))
            if not (yield from self._read_content((PYTHON_START,))):
                return

    def _read_calls(self) -> Reading[bool]:
        """Read the calls of a list; return whether there was one, behind the last of which the source then begins."""
        source = self._source
        has_calls = False
        while True:
            yield from source.skip_spaces()
            whole = yield from self._read_call()
            if whole is None:
                return has_calls
            yield from source.skip_spaces()
            goes_on = whole and (yield from source.take(","))
            if whole and not goes_on:
                yield from source.take("]")
                yield from source.skip_spaces()
                yield from source.take(PYTHON_END)
            self._end_call(whole=whole)
            has_calls = True
            if not goes_on:
                return True

    def _read_call(self) -> Reading[bool | None]:
        """Read ``name(key=value, …)`` and begin a call; None if this is no call, else whether it is whole."""
        source = self._source
        name = yield from source.take_while(_NAME)
        if not name or name[0].isdigit() or not (yield from source.take("(")):
            return None
        yield from source.skip_spaces()
        if (yield from source.take(")")):
            self._begin_call(name)
            self._add_arguments("{}")
            return True
        key = yield from self._read_key()
        if not key:
            return None
        self._begin_call(name)
        opening = "{"
        while key:
            value = _json_of_literal((yield from self._read_literal()))
            if value is None:
                return False
            self._add_arguments(f"{opening}{json.dumps(key)}: {value}")
            opening = ", "
            yield from source.take(",")
            yield from source.skip_spaces()
            if (yield from source.take(")")):
                self._add_arguments("}")
                return True
            key = yield from self._read_key()
        return False

    def _read_key(self) -> Reading[str]:
        source = self._source
        key = yield from source.take_while(_NAME)
        yield from source.skip_spaces()
        is_key = key.isidentifier() and (yield from source.take("="))
        yield from source.skip_spaces()
        return key if is_key else ""

    def _read_literal(self) -> Reading[str]:
        """Read up to the comma or parenthesis that ends a value; "" if none does."""
        source = self._source
        start = source.position
        closing: list[str] = []
        while char := (yield from source.peek()):
            if not closing and char in ",)":
                return source.text[start : source.position]
            source.position += 1
            if char in _QUOTES:
                yield from self._skip_string(char)
            elif char in _CLOSING:
                closing.append(_CLOSING[char])
                if len(closing) > MAX_JSON_DEPTH:
                    return ""
            elif char in ")]}" and (not closing or closing.pop() != char):
                return ""
        return ""

    def _skip_string(self, quote: str) -> Reading[None]:
        source = self._source
        while char := (yield from source.peek()):
            source.position += 1
            if char == quote:
                return
            if char == "\\" and (yield from source.peek()):
                source.position += 1


def _json_of_literal(text: str) -> str | None:
    """Return a Python literal as JSON; None if it is none, or has what JSON lacks."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about escapes like "\d", which Python keeps as they are
            tree = ast.parse(text.strip(), mode="eval")
        return json.dumps(_value(tree.body), ensure_ascii=False, allow_nan=False)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Name(id=name) if name in _JSON_NAMES:
            return _JSON_NAMES[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
    raise ValueError(f"{type(node).__name__} is not a literal")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError("an object's keys must be texts")
