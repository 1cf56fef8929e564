"""What every request passes before its route: request id, API key, readiness and size of the body. Pure ASGI."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.api.errors import RETRY_AFTER_S, HTTPError, error_response
from octavo.observe.log_context import log_context
from octavo.observe.logging import ACCESS_LOGGER

logger = logging.getLogger(ACCESS_LOGGER)
failure_logger = logging.getLogger("octavo.api.failures")

FAILURE_KEY = "octavo.failure"
"""Where an ASGI scope has the exception that escaped from a route, for the middleware around this one."""
OPEN_PATHS = frozenset({"/health", "/live", "/version"})
UNGATED_PATHS = OPEN_PATHS | {"/metrics", "/openapi.json", "/v1/requests"}
_UNGATED_PREFIX = "/v1/requests/"  # what happened is asked most when nothing works any more
_UNLOGGED_PATHS = OPEN_PATHS | {"/metrics"}
_SANE_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_MAX_DRAINED_BYTES = 256 * 2**20
_MAX_DRAIN_S = 5.0


class RequestContext:
    """Outermost: gives each request an id, logs it, and turns whatever escapes into a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        with log_context(request_id=request_id):
            await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        status = 0
        started_at = time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            failure_logger.exception("request %s failed", request_id)
            scope[FAILURE_KEY] = error
            if status:
                raise
            await error_response(error)(scope, receive, send_with_id)
        finally:
            if scope["path"] not in _UNLOGGED_PATHS:
                duration_ms = (time.monotonic() - started_at) * 1e3
                level = logging.DEBUG if status < 400 else logging.INFO
                fields = {"method": scope["method"], "path": scope["path"], "status": status}
                logger.log(
                    level,
                    "%s %s %d %.1f ms",
                    *fields.values(),
                    duration_ms,
                    extra={"fields": {**fields, "duration_ms": round(duration_ms, 1)}},
                )


class Authentication:
    """Lets a request pass if it carries one of the keys, or if its path needs none."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[str]) -> None:
        self.app = app
        self._keys = [key.encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_known(key.strip(" \t")):
            await self.app(scope, receive, send)
            return
        message = (
            "The API key is not one that this server accepts."
            if key
            else "This server needs an API key: send the header 'Authorization: Bearer <key>'."
        )
        error = HTTPError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
        await error_response(error)(scope, receive, send)

    def _is_known(self, key: str) -> bool:
        given = key.encode("latin-1")  # as Starlette decodes headers
        matches = [hmac.compare_digest(given, known) for known in self._keys]
        return any(matches)


class ReadinessGate:
    """Answers 503 on the routes that need a model while there is none to run it."""

    def __init__(self, app: ASGIApp, unavailable: Callable[[], str | None]) -> None:
        self.app = app
        self._unavailable = unavailable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = self._unavailable() if scope["type"] == "http" and not _is_ungated(scope["path"]) else None
        if reason is None:
            await self.app(scope, receive, send)
        else:
            await error_response(unavailable_error(reason))(scope, receive, send)


def _is_ungated(path: str) -> bool:
    return path in UNGATED_PATHS or path.startswith(_UNGATED_PREFIX)


def unavailable_error(reason: str) -> HTTPError:
    """The 503 of a server that cannot run its model now."""
    return HTTPError(503, reason, code="unavailable", headers={"retry-after": str(RETRY_AFTER_S)})


class BodyLimit:
    """Refuses bodies above a number of bytes, by their declared length or while they arrive."""

    def __init__(self, app: ASGIApp, max_request_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_request_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            if "expect" not in headers:
                await _drain(receive)
            await error_response(self._too_large())(scope, receive, send)
            return
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                await _drain(receive)
                raise self._too_large()
            return message

        await self.app(scope, limited_receive, send)

    def _too_large(self) -> HTTPError:
        return HTTPError(
            413,
            f"The body is larger than {self._max_bytes:,} bytes, which is the most that this server takes "
            "(--max-request-bytes).",
            code="request_too_large",
        )


async def _drain(receive: Receive) -> None:
    """Read what a client still sends, for a while: many clients look for an answer only after they have sent all."""
    drained = 0
    try:
        async with asyncio.timeout(_MAX_DRAIN_S):
            while drained < _MAX_DRAINED_BYTES:
                message = await receive()
                drained += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
