"""Traces of requests: the outermost middleware, which sees what a client asked, what it was answered, and when it left.

It reads along and changes nothing. Paths that do not generate are passed on untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.api.errors import ErrorResponse
from octavo.api.generation_record import GenerationRecord, current_generations
from octavo.api.middleware import FAILURE_KEY
from octavo.api.request_span import Ending, RequestSpan
from octavo.observe.log_context import log_context

if TYPE_CHECKING:
    from octavo.observe.tracing import Tracing

OPERATIONS: Mapping[str, str] = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}
"""The paths that are traced, and what the conventions call them."""
_MAX_MODEL_NAME = 128


class _Asked(msgspec.Struct):
    """What a trace wants to know of a request's body; whatever else is in it is somebody else's business."""

    model: str | None = None


class _AskedWithContent(_Asked):
    """The same, where content may be in traces."""

    messages: list[dict[str, Any]] | None = None
    prompt: str | list[Any] | None = None


class TraceRequests:
    """Makes a span of each request that generates.

    Args:
        tracing: where spans go.
        names: names of the served model; the first stands for requests that name none.
        max_request_bytes: bodies above that are not looked into; they are refused anyway.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing, names: Sequence[str], max_request_bytes: int) -> None:
        self.app = app
        self._tracing = tracing
        self._names = names
        self._max_request_bytes = max_request_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = OPERATIONS.get(scope.get("path", ""))
        if scope["type"] != "http" or scope["method"] != "POST" or operation is None:
            await self.app(scope, receive, send)
            return
        span = RequestSpan(self._tracing, operation, _trace_headers(scope), _connection_attributes(scope))
        exchange = _Exchange(receive, send, self._max_request_bytes)
        generations: list[GenerationRecord] = []
        token = current_generations.set(generations)
        try:
            with log_context(**span.ids):
                await self.app(scope, exchange.receive, exchange.send)
        finally:
            current_generations.reset(token)
            if exchange.request_id:
                span.span.set_attribute("gen_ai.request.id", exchange.request_id)
            model, messages = self._asked(exchange)
            span.end(generations, exchange.ending(scope.get(FAILURE_KEY)), model, messages)

    def _asked(self, exchange: _Exchange) -> tuple[str, list[object] | None]:
        """Return the name of the model that was asked for, and the messages where traces may have them."""
        schema: type[_Asked] = _AskedWithContent if self._tracing.with_content else _Asked
        try:
            asked = msgspec.json.decode(exchange.body, type=schema)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._names[0], None  # the route has refused it already
        messages = _messages(asked) if isinstance(asked, _AskedWithContent) else None
        return (asked.model or self._names[0])[:_MAX_MODEL_NAME], messages


class _Exchange:
    """One request and its answer as they pass."""

    def __init__(self, receive: Receive, send: Send, max_request_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._max_request_bytes = max_request_bytes
        self._chunks: list[bytes] = []
        self._num_bytes = 0
        self._status = 0
        self._error_answer = b""
        self._is_answered = False
        self._is_client_gone = False
        self.request_id = ""

    @property
    def body(self) -> bytes:
        """The request's body, empty if it was too large."""
        return b"".join(self._chunks)

    async def receive(self) -> Message:
        """Receive, and keep the body."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._is_client_gone = self._is_client_gone or not self._is_answered
            return message
        chunk = message.get("body", b"")
        self._num_bytes += len(chunk)
        if self._num_bytes > self._max_request_bytes:
            self._chunks = []
        else:
            self._chunks.append(chunk)
        return message

    async def send(self, message: Message) -> None:
        """Send, and keep the status and the body of an error."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self.request_id = Headers(raw=message["headers"]).get("x-request-id", "")
        else:
            self._is_answered = not message.get("more_body", False)
            if self._status >= 400:
                self._error_answer += message.get("body", b"")
        await self._send(message)

    def ending(self, failure: Exception | None) -> Ending:
        """Say how it ended."""
        try:
            error = msgspec.json.decode(self._error_answer, type=ErrorResponse).error
        except (msgspec.MsgspecError, UnicodeDecodeError):  # no error, or not one of ours
            return Ending(self._status, None, "", failure, self._is_client_gone)
        return Ending(self._status, error.code, error.message, failure, self._is_client_gone)


def _trace_headers(scope: Scope) -> dict[str, str]:
    """Return the headers that name the caller's span; ``tracestate`` may come in several."""
    headers = Headers(scope=scope)
    return {"traceparent": headers.get("traceparent", ""), "tracestate": ",".join(headers.getlist("tracestate"))}


def _connection_attributes(scope: Scope) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {"http.request.method": scope["method"], "http.route": scope["path"]}
    server = scope.get("server")
    if server is not None and server[1] is not None:
        attributes |= {"server.address": server[0], "server.port": server[1]}
    return attributes


def _messages(asked: _AskedWithContent) -> list[object] | None:
    """Write what was asked in the schema of the conventions; prompts of token ids have no text to show."""
    if asked.messages is not None:
        return [
            {"role": message.get("role"), "parts": [{"type": "text", "content": message.get("content")}]}
            for message in asked.messages
        ]
    prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt or []
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    return [{"role": "user", "parts": [{"type": "text", "content": text}]} for text in texts] or None
