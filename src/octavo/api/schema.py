"""The OpenAPI description of the routes, from the very types that read requests and write answers."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from octavo.api.errors import ErrorResponse

_REF = "#/components/schemas/{}"
_ERRORS = {
    400: "The request is wrong.",
    401: "The API key is missing or wrong.",
    404: "There is no such model.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    500: "The server failed.",
    503: "The model cannot run now, or too many requests wait.",
}
ERRORS_OF_POST = (400, 401, 404, 413, 415, 503)


def operation(
    request: type[BaseModel] | None,
    response: type[msgspec.Struct] | None,
    *,
    chunk: type[msgspec.Struct] | None = None,
    errors: tuple[int, ...] = ERRORS_OF_POST,
) -> dict[str, Any]:
    """Return the arguments of a route decorator that describe its body and its answers.

    Args:
        response: None is a line of text.
        chunk: what the server-sent events hold that the route answers with if ``stream`` is true.
    """
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if response is not None:
        content = {"application/json": {"schema": {"$ref": _REF.format(response.__name__)}}}
    if chunk is not None:
        content["text/event-stream"] = {"schema": _event_schema(chunk)}
    error_content = {"application/json": {"schema": {"$ref": _REF.format(ErrorResponse.__name__)}}}
    responses: dict[int, dict[str, Any]] = {200: {"description": "The answer.", "content": content}}
    responses |= {status: {"description": _ERRORS[status], "content": error_content} for status in errors}
    described: dict[str, Any] = {"responses": responses, "openapi_extra": {}}
    if request is not None:
        body = {"application/json": {"schema": {"$ref": _REF.format(request.__name__)}}}
        described["openapi_extra"] = {"requestBody": {"required": True, "content": body}}
    return described


def _event_schema(chunk: type[msgspec.Struct]) -> dict[str, Any]:
    """Describe one event; the last one's data is ``[DONE]``, and that before it is an error if one happened."""
    json_data = {"contentMediaType": "application/json", "contentSchema": {"$ref": _REF.format(chunk.__name__)}}
    data = {
        "type": "string",
        "anyOf": [{"const": "[DONE]"}, json_data],
        "description": "A chunk, an error, or at the end [DONE].",
    }
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def describe(app: FastAPI, requests: list[type[BaseModel]], responses: list[type[msgspec.Struct]]) -> None:
    """Make ``/openapi.json`` of ``app`` contain the types that its routes refer to."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, of_requests = models_json_schema(
                [(model, "validation") for model in requests], ref_template=_REF.format("{model}")
            )
            _, of_responses = msgspec.json.schema_components(
                [*responses, ErrorResponse], ref_template=_REF.format("{name}")
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(of_requests.get("$defs", {}))
            schemas.update(of_responses)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
