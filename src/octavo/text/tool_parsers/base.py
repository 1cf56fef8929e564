"""What every tool parser has in common: the events that it gives, and the way from text to them.

A call is announced by its name, then its arguments come in parts, then it ends. What is not a call is content, and
stays as it is but for the white space between content and calls. In a stream nothing can be taken back: if a call
breaks off after its name and the beginning of its arguments have been told, it ends as one that is not ``whole``.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from octavo.text.text_source import Reading, TextSource, num_chars_held


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call begins.

    Attributes:
        index: which call of the answer it is, from 0.
    """

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """The next part of a call's arguments, which are one JSON object."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A call has ended.

    Attributes:
        whole: whether its arguments are a JSON object.
        source: the text that it was read from, with the white space before it.
    """

    index: int
    whole: bool
    source: str


Event = Content | CallStart | Arguments | CallEnd


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool.

    Attributes:
        arguments: a JSON object, as text.
    """

    name: str
    arguments: str


@dataclass(slots=True)
class ParsedText:
    """A whole answer taken apart."""

    content: str = ""
    calls: list[Call] = field(default_factory=list)


class ToolParser(ABC):
    """Reads one answer of a model in one format.

    A format's class writes ``_read`` with the methods below it.
    """

    def __init__(self) -> None:
        self._source = TextSource()
        self._events: list[Event] = []
        self._spaces = ""  # white space that is content if more content comes
        self._has_content = False
        self._is_after_call = False
        self._num_calls = 0
        self._reading = self._read()
        next(self._reading)

    def push(self, text: str) -> list[Event]:
        """Take the next part of the text; return what is now certain."""
        self._source.text += text
        next(self._reading, None)
        return self._take_events()

    def finish(self) -> list[Event]:
        """Return the rest: no more text will come. The parser must not be used again."""
        self._source.has_ended = True
        next(self._reading, None)
        if self._spaces and not self._is_after_call:
            self._events.append(Content(self._spaces))
        return self._take_events()

    @abstractmethod
    def _read(self) -> Reading[None]:
        """Read all text; yields at least once."""

    def _read_content(self, markers: Sequence[str]) -> Reading[str]:
        """Read content up to one of the markers and over it; the marker stays in the source. "" at the text's end."""
        source = self._source
        while True:
            places = [(place, marker) for marker in markers if (place := source.text.find(marker)) >= 0]
            if places:
                place, marker = min(places)
                source.position = place
                self._write(source.release())
                source.position = len(marker)
                return marker
            held = 0 if source.has_ended else num_chars_held(source.text, markers)
            source.position = len(source.text) - held
            self._write(source.release())
            if source.has_ended:
                return ""
            yield

    def _give_back(self, num_chars: int) -> None:
        """Make content of the first characters of the source, and read on behind them."""
        self._source.position = num_chars
        self._write(self._source.release())

    def _write(self, text: str) -> None:
        """Take text as content, but hold back white space at its end, and drop that behind a call."""
        if self._is_after_call:
            text = text.lstrip()
            if not text:
                return
        text = self._spaces + text
        kept = text.rstrip()
        self._spaces = text[len(kept) :]
        if kept:
            self._has_content, self._is_after_call = True, False
            self._events.append(Content(kept))

    def _begin_call(self, name: str) -> None:
        self._events.append(CallStart(self._num_calls, name))

    def _add_arguments(self, text: str) -> None:
        self._events.append(Arguments(self._num_calls, text))

    def _end_call(self, *, whole: bool) -> None:
        """End the call that began; all that was read of the source belongs to it."""
        self._events.append(CallEnd(self._num_calls, whole, self._spaces + self._source.release()))
        if not whole or not self._has_content:
            self._spaces = ""
        self._is_after_call = whole
        self._num_calls += 1

    def _read_json_call(self) -> Reading[bool | None]:
        """Read ``{"name": …, "arguments": {…}}``, or with ``parameters``, from its brace on, and begin a call.

        Arguments go out as they come if the name stands before them, as all models write it.

        Returns:
            Whether the arguments are valid; None if this is no call. The source is then somewhere behind the brace.
        """
        start = self._source.position
        name = yield from self._read_head()
        if name is None:
            self._source.position = start
            return (yield from self._read_whole_json_call())
        self._begin_call(name)
        arguments = yield from self._source.take_json(self._add_arguments)
        if arguments is None or not is_json_object(arguments):
            return False
        yield from self._skip_rest_of_object()
        return True

    def _read_json_array(self, *, num_chars_before: int) -> Reading[None]:
        """Read an array of calls from its bracket on.

        Args:
            num_chars_before: how much of the source is content if no call is read.
        """
        source = self._source
        source.position += 1
        while True:
            yield from source.skip_spaces()
            is_object = (yield from source.peek()) == "{"
            whole = (yield from self._read_json_call()) if is_object else None
            if whole is None:
                self._give_back(num_chars_before)
                return
            yield from source.skip_spaces()
            goes_on = whole and (yield from source.take(","))
            if whole and not goes_on:
                yield from source.take("]")
            self._end_call(whole=whole)
            num_chars_before = 0
            if not goes_on:
                return

    def _read_head(self) -> Reading[str | None]:
        """Read up to the arguments' brace; None if the name does not come first or the arguments are no object."""
        source = self._source
        for expected in ("{", '"name"', ":"):
            if not (yield from source.take(expected)):
                return None
            yield from source.skip_spaces()
        if (yield from source.peek()) != '"':
            return None
        name = _json_or_none((yield from source.take_json()) or "")
        yield from source.skip_spaces()
        if not isinstance(name, str) or not name or not (yield from source.take(",")):
            return None
        yield from source.skip_spaces()
        if not (yield from source.take_any(('"arguments"', '"parameters"'))):
            return None
        yield from source.skip_spaces()
        if not (yield from source.take(":")):
            return None
        yield from source.skip_spaces()
        return name if (yield from source.peek()) == "{" else None

    def _skip_rest_of_object(self) -> Reading[None]:
        """Read what may follow the arguments: other members, and braces, of which models write one too many or few."""
        source = self._source
        yield from source.skip_spaces()
        while (yield from source.take(",")):
            yield from source.skip_spaces()
            for separator in (":", ""):
                yield from source.take_json()
                yield from source.skip_spaces()
                yield from source.take(separator)
                yield from source.skip_spaces()
        while (yield from source.take("}")):
            yield from source.skip_spaces()

    def _read_whole_json_call(self) -> Reading[bool | None]:
        """Read a call whose members are in another order, or whose arguments are a text or left out."""
        text = yield from self._source.take_json()
        call = call_of_json(text) if text is not None else None
        if call is None:
            return None
        self._begin_call(call.name)
        self._add_arguments(call.arguments)
        return True

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def parse_text(parser: ToolParser, text: str) -> ParsedText:
    """Take a whole answer apart; a call that is not whole is content again."""
    parsed = ParsedText()
    name, arguments = "", ""
    for event in [*parser.push(text), *parser.finish()]:
        match event:
            case Content():
                parsed.content += event.text
            case CallStart():
                name, arguments = event.name, ""
            case Arguments():
                arguments += event.text
            case CallEnd(whole=True):
                parsed.calls.append(Call(name, arguments))
            case CallEnd():
                parsed.content += event.source
    return parsed


def call_of_json(text: str) -> Call | None:
    """Return the call that a JSON object writes down; None if it does not."""
    value = _json_or_none(text)
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _json_or_none(arguments)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return Call(name, json.dumps(arguments, ensure_ascii=False))


def is_json_object(text: str) -> bool:
    """Whether a text is one JSON object, as the standard has it."""
    return isinstance(_json_or_none(text), dict)


def _json_or_none(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
