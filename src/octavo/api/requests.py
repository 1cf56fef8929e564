"""``GET /v1/requests`` and ``GET /v1/requests/{id}/timeline``: what each request waited for and what was done to it.

They answer as well while the engine is down or the server is stopping. They never show prompts or answers.
"""

from __future__ import annotations

import re

import msgspec
from fastapi import APIRouter, Request, Response

from octavo.api.errors import HTTPError
from octavo.api.request_history import MAX_FINISHED, RequestHistory
from octavo.api.schema import operation
from octavo.api.timeline import RequestList, Timeline, request_list, timeline
from octavo.errors import RequestError

_DEFAULT_LIMIT = 50
_FEW_DIGITS = re.compile(r"[0-9]{1,9}")
_LIMIT_PARAMETER = {
    "name": "limit",
    "in": "query",
    "description": f"Finished requests at most, from 0 to {MAX_FINISHED}.",
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_FINISHED, "default": _DEFAULT_LIMIT},
}


def requests_router(history: RequestHistory) -> APIRouter:
    """The routes over a server's requests."""
    router = APIRouter()
    listing = operation(None, RequestList, errors=(400, 401))
    listing["openapi_extra"]["parameters"] = [_LIMIT_PARAMETER]

    @router.get("/v1/requests", **listing)
    async def list_requests(request: Request) -> Response:
        """List the running requests and the last finished ones."""
        return _json(request_list(history, _limit(request.query_params.get("limit"))))

    @router.get("/v1/requests/{request_id:path}/timeline", **operation(None, Timeline, errors=(401, 404)))
    async def request_timeline(request_id: str) -> Response:
        """Say what happened to a request when; its id is that of the answer, or its ``x-request-id``."""
        story = history.find(request_id)
        if story is None:
            message = (
                f"There is no request {request_id!r} among those that run and the last {MAX_FINISHED} that finished."
            )
            raise HTTPError(404, message, code="request_not_found")
        return _json(timeline(story))

    return router


def _limit(given: str | None) -> int:
    if given is None:
        return _DEFAULT_LIMIT
    if _FEW_DIGITS.fullmatch(given) is None or int(given) > MAX_FINISHED:
        raise RequestError(f"limit must be a whole number from 0 to {MAX_FINISHED}, not {given!r}", param="limit")
    return int(given)


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
