"""Text that arrives in parts, for parsers written as if all of it were there.

A parser is a generator: where it needs text that has not come yet, it yields. So it cannot tell where one part ended
and the next began, and gives the same however the text was cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]
"""What reads from a source: yields to wait for more text, returns what it read."""

MAX_JSON_DEPTH = 128
_STRUCTURE = re.compile(r'["{}\[\]]')
_STRING_END = re.compile(r'["\\]')
_PLAIN_VALUE = re.compile(r"[^\s,:\]}]*")
_NOT_SPACE = re.compile(r"\S")


class TextSource:
    """The text that a parser has not finished with, and how far it has read it.

    Attributes:
        text: from the last ``release`` on.
        position: of the next character to read.
        has_ended: whether all text has come.
    """

    __slots__ = ("has_ended", "position", "text")

    def __init__(self) -> None:
        self.text = ""
        self.position = 0
        self.has_ended = False

    def release(self) -> str:
        """Forget the text that was read, and return it."""
        read, self.text = self.text[: self.position], self.text[self.position :]
        self.position = 0
        return read

    def peek(self) -> Reading[str]:
        """Return the next character without reading it; "" at the end."""
        while self.position >= len(self.text):
            if self.has_ended:
                return ""
            yield
        return self.text[self.position]

    def take(self, literal: str) -> Reading[bool]:
        """Read ``literal`` if it comes next."""
        while True:
            available = self.text[self.position : self.position + len(literal)]
            if available == literal:
                self.position += len(literal)
                return True
            if self.has_ended or not literal.startswith(available):
                return False
            yield

    def take_any(self, literals: Sequence[str]) -> Reading[str]:
        """Read the first of ``literals`` that comes next; return it, or "" if none does."""
        for literal in literals:
            if (yield from self.take(literal)):
                return literal
        return ""

    def skip_spaces(self) -> Reading[None]:
        """Read white space, if any comes next."""
        while True:
            found = _NOT_SPACE.search(self.text, self.position)
            if found is not None:
                self.position = found.start()
                return
            self.position = len(self.text)
            if self.has_ended:
                return
            yield

    def take_while(self, characters: re.Pattern[str]) -> Reading[str]:
        """Read the characters that match the pattern of one character."""
        start = self.position
        while (char := (yield from self.peek())) and characters.fullmatch(char):
            self.position += 1
        return self.text[start : self.position]

    def take_json(self, on_part: Callable[[str], None] | None = None) -> Reading[str | None]:
        """Read one JSON value as far as its brackets and strings say.

        Args:
            on_part: told each part of the value as soon as it has come.

        Returns:
            The value's text, which need not be valid JSON; None if no value ends here, and then everything up to where
            that became clear was read.
        """
        start = self.position
        scan = self._scan_json()
        while True:
            before = self.position
            try:
                next(scan)
            except StopIteration as end:
                if on_part is not None and self.position > before:
                    on_part(self.text[before : self.position])
                return self.text[start : self.position] if end.value else None
            if on_part is not None and self.position > before:
                on_part(self.text[before : self.position])
            yield

    def _scan_json(self) -> Reading[bool]:
        first = yield from self.peek()
        if first == '"':
            self.position += 1
            return (yield from self._scan_string())
        if first not in ("{", "["):
            return bool((yield from self.take_while(_PLAIN_VALUE)))
        closing: list[str] = []
        while True:
            found = _STRUCTURE.search(self.text, self.position)
            if found is None:
                self.position = len(self.text)
                if self.has_ended:
                    return False
                yield
                continue
            self.position = found.end()
            char = found.group()
            if char == '"':
                if not (yield from self._scan_string()):
                    return False
            elif char in "{[":
                closing.append("}" if char == "{" else "]")
                if len(closing) > MAX_JSON_DEPTH:
                    return False
            elif closing.pop() != char:
                return False
            if not closing:
                return True

    def _scan_string(self) -> Reading[bool]:
        """Read the rest of a string whose opening quote was read."""
        while True:
            found = _STRING_END.search(self.text, self.position)
            self.position = len(self.text) if found is None else found.end()
            if found is not None and found.group() == '"':
                return True
            if found is not None:  # a backslash, and what it escapes
                if not (yield from self.peek()):
                    return False
                self.position += 1
            elif self.has_ended:
                return False
            else:
                yield


def num_chars_held(text: str, markers: Sequence[str]) -> int:
    """Return how many characters at the end of ``text`` may be the beginning of a marker, which it does not contain."""
    longest = max(map(len, markers), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-length:]) for marker in markers):
            return length
    return 0
