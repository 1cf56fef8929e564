"""How errors look over HTTP: OpenAI's shape, a status, and headers.

Everything that leaves the server with a status of 400 or more is written here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from octavo.errors import ConfigError, EngineDeadError, ModelError, QueueFullError, RequestError, UnknownModelError

RETRY_AFTER_S = 1


class ErrorBody(msgspec.Struct):
    """The inside of OpenAI's error shape."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(msgspec.Struct):
    """OpenAI's error shape."""

    error: ErrorBody


class HTTPError(Exception):
    """An error that belongs to HTTP itself (no route, no key, too large a body) and has its own status."""

    def __init__(self, status: int, message: str, *, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


class ClientGoneError(Exception):
    """The client closed its connection before the answer was complete."""


def error_body(error: Exception) -> tuple[int, ErrorBody, dict[str, str]]:
    """Return status, body and headers for an error; what users should not see becomes a plain 500."""
    message = str(error)
    match error:
        case HTTPError():
            kind = "server_error" if error.status >= 500 else "invalid_request_error"
            return error.status, ErrorBody(message, kind, code=error.code), error.headers
        case UnknownModelError():
            return 404, ErrorBody(message, "invalid_request_error", error.param, error.code or "model_not_found"), {}
        case RequestError():
            return 400, ErrorBody(message, "invalid_request_error", error.param, error.code), {}
        case ConfigError() | ModelError():
            return 400, ErrorBody(message, "invalid_request_error"), {}
        case QueueFullError():
            return 503, ErrorBody(message, "server_error", code="queue_full"), {"retry-after": str(RETRY_AFTER_S)}
        case EngineDeadError():
            return 503, ErrorBody(message, "server_error", code="engine_dead"), {"retry-after": str(RETRY_AFTER_S)}
        case _:
            message = (
                "The server failed to answer this request. Its log has the cause, under the x-request-id of the answer."
            )
            return 500, ErrorBody(message, "server_error", code="internal_error"), {}


def error_response(error: Exception) -> Response:
    """Write an error as a complete HTTP answer."""
    status, body, headers = error_body(error)
    return Response(msgspec.json.encode(ErrorResponse(body)), status, headers=headers, media_type="application/json")


async def answer_octavo_error(request: Request, error: Exception) -> Response:
    """Exception handler for ``OctavoError`` and ``HTTPError``."""
    return error_response(error)


async def answer_client_gone(request: Request, error: Exception) -> Response:
    """Exception handler for ``ClientGoneError``: nobody reads the answer; the status is for the access log."""
    return Response(status_code=499)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for what the router itself raises: no such route, wrong method."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        wrapped = HTTPError(404, f"There is no route {what}. /openapi.json lists the routes.", code="route_not_found")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "other methods")
        message = f"{request.url.path} does not take {request.method}; use {allowed}."
        wrapped = HTTPError(405, message, code="method_not_allowed", headers=error.headers)
    else:
        wrapped = HTTPError(error.status_code, error.detail, code="http_error", headers=error.headers)
    return error_response(wrapped)
