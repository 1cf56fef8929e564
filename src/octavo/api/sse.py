"""Server-sent events, as OpenAI's clients read them: ``data: <json>`` lines, then ``data: [DONE]``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from octavo.api.disconnect import run_until_disconnect
from octavo.api.errors import ClientGoneError, ErrorResponse, error_body
from octavo.errors import OctavoError

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
_PATIENCE_BEFORE_HEADERS_S = 0.5

_encoder = msgspec.json.Encoder()


def event(chunk: msgspec.Struct) -> bytes:
    """Write one event."""
    return b"data: " + _encoder.encode(chunk) + b"\n\n"


class EventStream(Response):
    """An answer of server-sent events, each item of ``events`` in one write, ended by ``[DONE]``.

    An error before the first event is raised, so that it becomes an HTTP error with its own status; for clients with
    header timeouts, the headers go out after half a second in any case. A later error becomes an event. When the
    client goes, ``events`` is closed.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientGoneError):
            await run_until_disconnect(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            first = asyncio.ensure_future(anext(events, b""))
            try:
                await asyncio.wait({first}, timeout=_PATIENCE_BEFORE_HEADERS_S)
                if first.done():
                    first.result()
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await self._send_events(first, events, send)
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, first: asyncio.Future[bytes], events: AsyncGenerator[bytes, None], send: Send) -> None:
        try:
            await send({"type": "http.response.body", "body": await first, "more_body": True})
            async for body in events:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            last = DONE
        except Exception as error:
            if not isinstance(error, OctavoError):
                logger.exception("a stream failed")
            last = event(ErrorResponse(error_body(error)[1])) + DONE
        await send({"type": "http.response.body", "body": last, "more_body": True})
