"""From the bytes of a request body to a validated request model, or to one clear error.

The reading is strict: valid UTF-8 and JSON, finite numbers, no lone surrogates, bounded nesting, exact types, no
unknown fields.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from octavo.api.errors import HTTPError
from octavo.errors import RequestError

MAX_NESTING = 64
_MAX_SHOWN_CHARACTERS = 80
_EXPECTATIONS = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "a string of at least {min_length} characters",
    "string_too_long": "a string of at most {max_length} characters",
    "string_pattern_mismatch": "a name like {pattern}",
}

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_body(request: Request, model: type[ModelT]) -> ModelT:
    """Read the body of a request as ``model``.

    Raises:
        HTTPError: the body is not declared as JSON (415) or is too large (413).
        RequestError: the body is not what ``model`` describes; ``param`` names the field at fault.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise HTTPError(
            415,
            f"The body must be JSON: send the header 'content-type: application/json', not {media_type!r}.",
            code="unsupported_media_type",
        )
    return parse_body(await request.body(), model)


def parse_body(body: bytes, model: type[ModelT]) -> ModelT:
    """Decode and validate a JSON body; errors as in ``read_body``."""
    document = _decode(body)
    if not isinstance(document, dict):
        raise RequestError(f"The body must be a JSON object, not {_shown(document)}.")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _request_error(error.errors(include_url=False), document) from None


def _decode(body: bytes) -> object:
    too_deep = RequestError(f"The body is nested more than {MAX_NESTING} levels deep.")
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise RequestError(f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise too_deep from None
    if body.count(b"{") + body.count(b"[") > MAX_NESTING and _depth_exceeds(document, MAX_NESTING):
        raise too_deep
    return document


def _depth_exceeds(document: object, limit: int) -> bool:
    level: list[object] = [document]
    for _ in range(limit + 1):
        deeper: list[object] = []
        for value in level:
            if isinstance(value, dict):
                deeper.extend(value.values())
            elif isinstance(value, list):
                deeper.extend(value)
        if not deeper:
            return False
        level = deeper
    return True


def _request_error(errors: list[ErrorDetails], document: dict[str, Any]) -> RequestError:
    """Choose the error that says most, and word it."""
    unknown_fields = [error for error in errors if error["type"] == "unknown_field"]
    same_field = [error for error in errors if error["loc"][:1] == errors[0]["loc"][:1]]
    chosen = unknown_fields[0] if unknown_fields else max(same_field, key=lambda error: len(error["loc"]))
    param = _param(chosen["loc"], document)
    context = chosen.get("ctx", {})
    match chosen["type"]:
        case "unknown_field" | "not_supported" | "wrong_request":
            param = ".".join(part for part in (param, context.get("param")) if part)
            return RequestError(chosen["msg"], param=param or None, code=context.get("code"))
        case "missing":
            param = ".".join(part for part in (param, str(chosen["loc"][-1])) if part)
            return RequestError(f"{param} is missing.", param=param, code="missing_required_parameter")
        case "union_tag_not_found":
            param = f"{param}.{context['discriminator'].strip(chr(39))}"
            return RequestError(f"{param} is missing.", param=param, code="missing_required_parameter")
        case "union_tag_invalid":
            param = f"{param}.{context['discriminator'].strip(chr(39))}"
            message = f"{param} must be one of {context['expected_tags']}, not {_shown(context['tag'])}."
            return RequestError(message, param=param)
    alternatives = dict.fromkeys(
        _expectation(error)
        for error in same_field
        if len(error["loc"]) == len(chosen["loc"]) and _param(error["loc"], document) == param
    )
    return RequestError(f"{param} must be {' or '.join(alternatives)}, not {_shown(chosen['input'])}.", param=param)


def _expectation(error: ErrorDetails) -> str:
    """Say what a value must be, to stand behind ``must be``."""
    template = _EXPECTATIONS.get(error["type"])
    if template is None:
        return error["msg"].removeprefix("Input should be ")
    bounds = {name: _plain(bound) for name, bound in error.get("ctx", {}).items()}
    return template.format(**bounds)


def _plain(bound: object) -> object:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _param(location: tuple[int | str, ...], document: object) -> str:
    """Write where an error is as ``messages[0].content``; the tags of union members are left out."""
    param = ""
    value = document
    for step in location:
        if isinstance(step, int) and isinstance(value, list) and step < len(value):
            param += f"[{step}]"
            value = value[step]
        elif isinstance(value, dict) and step in value:
            param += f".{step}" if param else str(step)
            value = value[step]
    return param


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else text[:_MAX_SHOWN_CHARACTERS] + "…"
