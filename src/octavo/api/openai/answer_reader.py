"""From the text of an answer to its parts: reasoning, content and tool calls, whole or as they come."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UNSET

from octavo.api.openai.reasoning_tokens import ReasoningTokenCounter
from octavo.api.openai.responses import (
    AnswerMessage,
    AnswerToolCall,
    CalledFunction,
    Delta,
    FunctionDelta,
    ToolCallDelta,
)
from octavo.engine.outputs import CompletionOutput
from octavo.text import Tokenizer
from octavo.text.reasoning_parsers import ReasoningFormat, ReasoningParser
from octavo.text.tool_parsers import Arguments, CallEnd, CallStart, Content, Event, ToolParser

_CALL_ID_CHARS = 24
_MISTRAL_ID_CHARS = 9


def new_call_id() -> str:
    """Make the id of a tool call."""
    return f"call_{uuid.uuid4().hex[:_CALL_ID_CHARS]}"


def new_mistral_call_id() -> str:
    """Make the id of a tool call as Mistral's chat templates demand it: nine letters and digits."""
    return secrets.token_hex(_MISTRAL_ID_CHARS)[:_MISTRAL_ID_CHARS]


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How the answers to one request are read.

    Attributes:
        make_tool_parser: None if no calls are looked for.
        allows_several_calls: else only the first call is given out.
        reasoning: None if reasoning is not told from the answer.
        is_open: whether the answer begins in the middle of reasoning.
        includes_reasoning: whether the reasoning is given out.
    """

    make_tool_parser: Callable[[], ToolParser] | None = None
    make_call_id: Callable[[], str] = new_call_id
    allows_several_calls: bool = True
    reasoning: ReasoningFormat | None = None
    is_open: bool = False
    includes_reasoning: bool = True


class AnswerReader:
    """Reads one sequence of an answer.

    Attributes:
        num_calls: calls that were found so far.
    """

    def __init__(self, form: AnswerFormat, tokenizer: Tokenizer) -> None:
        self._form = form
        self._tools = form.make_tool_parser() if form.make_tool_parser is not None else None
        self._reasoning = ReasoningParser(form.reasoning, is_open=form.is_open) if form.reasoning else None
        self._counter = ReasoningTokenCounter(form.reasoning, tokenizer) if form.reasoning else None
        self.num_calls = 0

    @property
    def num_reasoning_tokens(self) -> int:
        """Tokens of reasoning so far."""
        return self._counter.num_tokens if self._counter is not None else 0

    def message(self, output: CompletionOutput) -> AnswerMessage:
        """Read a whole answer. A call that is not whole is content."""
        reasoning, events = self._read(output)
        content = ""
        calls: list[AnswerToolCall] = []
        call = AnswerToolCall("", CalledFunction("", ""))
        for event in events:
            match event:
                case Content():
                    content += event.text
                case CallStart():
                    call = AnswerToolCall(self._form.make_call_id(), CalledFunction(event.name, ""))
                case Arguments():
                    call.function.arguments += event.text
                case CallEnd(whole=True):
                    calls.append(call)
                case CallEnd():
                    content += event.source
        if not self._form.allows_several_calls:
            del calls[1:]
        self.num_calls = len(calls)
        message = AnswerMessage(content=content if content or not calls else None)
        if calls:
            message.tool_calls = calls
        if self._reasoning is not None and self._form.includes_reasoning:
            message.reasoning_content = message.reasoning = reasoning or None
        return message

    def deltas(self, output: CompletionOutput) -> list[Delta]:
        """Read the next part of a streamed answer; the last one has a finish reason."""
        reasoning, events = self._read(output)
        deltas = []
        if reasoning and self._form.includes_reasoning:
            deltas.append(Delta(reasoning_content=reasoning, reasoning=reasoning))
        for event in events:
            delta = self._delta(event)
            if delta is not None:
                deltas.append(delta)
        return deltas

    def _read(self, output: CompletionOutput) -> tuple[str, list[Event]]:
        is_last = output.finish_reason is not None
        reasoning, text = "", output.text
        if self._reasoning is not None and self._counter is not None:
            reasoning, text = self._reasoning.push(text)
            if is_last:
                rest_of_reasoning, rest = self._reasoning.finish()
                reasoning, text = reasoning + rest_of_reasoning, text + rest
            self._counter.add(output.token_ids, reasoning, is_reasoning=self._reasoning.is_reasoning)
        if self._tools is None:
            return reasoning, [Content(text)] if text else []
        events = self._tools.push(text)
        return reasoning, events + self._tools.finish() if is_last else events

    def _delta(self, event: Event) -> Delta | None:
        if isinstance(event, Content):
            return Delta(content=event.text)
        if isinstance(event, CallEnd) or (event.index > 0 and not self._form.allows_several_calls):
            return None
        if isinstance(event, CallStart):
            self.num_calls += 1
            function = FunctionDelta(name=event.name, arguments="")
            call = ToolCallDelta(event.index, self._form.make_call_id(), "function", function)
        else:
            call = ToolCallDelta(event.index, UNSET, UNSET, FunctionDelta(arguments=event.text))
        return Delta(tool_calls=[call])
