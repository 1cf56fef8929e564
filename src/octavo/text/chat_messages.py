"""Chat messages as OpenAI's API takes them, made into what chat templates read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from octavo.errors import RequestError


def normalise_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return copies of the messages with plain-string content and tool-call arguments as objects.

    Fields that are None are left out (clients write ``"tool_calls": null``), but for the content, which becomes "".

    Raises:
        RequestError: a message has no role, or content that is not text.
    """
    return [_normalise_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _normalise_message(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RequestError(f"{place} must be an object with a role, such as 'user'", param="messages")
    normalised = {name: value for name, value in message.items() if value is not None}
    normalised["content"] = _text_of(message.get("content"), f"{place}.content")
    if "tool_calls" in normalised:
        normalised["tool_calls"] = [_normalise_tool_call(call) for call in normalised["tool_calls"]]
    return normalised


def _text_of(content: Any, place: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise RequestError(
            f"{place} must be a string or a list of text parts, not {type(content).__name__}", param="messages"
        )
    return "\n".join(_text_of_part(part, f"{place}[{index}]") for index, part in enumerate(content))


def _text_of_part(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if kind != "text":
        raise RequestError(
            f"{place} is of type {kind!r}; this model takes text only, as {{'type': 'text', 'text': '…'}}",
            param="messages",
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise RequestError(f"{place}.text must be a string, not {type(text).__name__}", param="messages")
    return text


def _normalise_tool_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    return {**call, "function": {**function, "arguments": _parse_arguments(function["arguments"])}}


def _parse_arguments(arguments: str) -> Any:
    """Return the object that the JSON text is; any other text stays as it is."""
    if not arguments.strip():
        return {}
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return parsed if isinstance(parsed, dict) else arguments
