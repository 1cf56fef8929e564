"""Reads the answers of an OpenAI-compatible server: streamed or whole, of chats or completions, good or bad."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from octavo.bench.sse import EventParser

_DONE = b"[DONE]"
_SHOWN_CHARS = 500


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Message(msgspec.Struct):
    """``message`` of an answer, or ``delta`` of a chunk. Servers have two names for the text of a thinking model."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Body)


@dataclass(slots=True)
class Answer:
    """One answer while it comes, and when it has.

    Attributes:
        chunk_times: when each piece with text (or a part of a tool call) came, as the reader was told.
        texts: the pieces of text.
        input_tokens, output_tokens, cached_tokens: of the server's usage; None where it did not say.
        error: ``stream`` if the answer is broken or the server put an error into it.
    """

    chunk_times: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    error: str | None = None
    error_message: str = ""
    _events: EventParser = field(default_factory=EventParser, repr=False)
    _is_finished: bool = False

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.texts)

    def read_stream(self, body: bytes, at: float) -> None:
        """Take a part of a streamed answer that came at that time."""
        for data in self._events.feed(body):
            self._read_event(data, at)

    def end_stream(self, at: float) -> None:
        """Take the end of a streamed answer."""
        for data in self._events.end():
            self._read_event(data, at)
        if not self._is_finished and self.error is None:
            self._fail("the stream ended before the answer was finished")

    def read_whole(self, body: bytes) -> None:
        """Take an answer that was not streamed."""
        self._read_body(body)
        if not self._is_finished and self.error is None:
            self._fail(f"the body is not an answer: {shorten(body)}")

    def _read_event(self, data: bytes, at: float) -> None:
        if data == _DONE:
            self._is_finished = True
        elif self._read_body(data):
            self.chunk_times.append(at)

    def _read_body(self, data: bytes) -> bool:
        """Return whether there was text in it."""
        try:
            body = _decoder.decode(data)
        except msgspec.DecodeError as error:
            self._fail(f"what the server sent is not understood ({error}): {shorten(data)}")
            return False
        if body.error is not None:
            self._fail(error_message(data))
            return False
        if body.usage is not None:
            self._read_usage(body.usage)
        has_text = False
        for choice in body.choices:
            has_text |= self._read_choice(choice)
        return has_text

    def _read_choice(self, choice: _Choice) -> bool:
        if choice.finish_reason is not None:
            self._is_finished = True
        message = choice.delta or choice.message
        text = choice.text if message is None else message.content or message.reasoning_content or message.reasoning
        if text:
            self.texts.append(text)
        return bool(text or (message is not None and message.tool_calls))

    def _read_usage(self, usage: _Usage) -> None:
        self.input_tokens = usage.prompt_tokens
        self.output_tokens = usage.completion_tokens
        if usage.prompt_tokens_details is not None:
            self.cached_tokens = usage.prompt_tokens_details.cached_tokens or 0

    def _fail(self, message: str) -> None:
        if self.error is None:
            self.error = "stream"
            self.error_message = message


def error_message(body: bytes) -> str:
    """Return what an error body says, in whatever shape servers use."""
    try:
        content = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return shorten(body)
    for key in ("error", "message", "detail"):
        if isinstance(content, dict) and key in content:
            content = content[key]
    return content[:_SHOWN_CHARS] if isinstance(content, str) else shorten(body)


def shorten(body: bytes) -> str:
    """Return the beginning of a body as text."""
    return body[: 4 * _SHOWN_CHARS].decode(errors="replace").strip()[:_SHOWN_CHARS] or "(nothing)"
