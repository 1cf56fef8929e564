"""A conversation with a chat model over OpenAI's API: the messages so far, and the answer as it streams in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from octavo.errors import OctavoError

_CONNECT_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Conversation:
    """What was said so far.

    Attributes:
        sampling: fields of the request beside ``model`` and ``messages``, e.g. ``temperature``.
    """

    client: httpx.Client
    model: str
    system: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    turns: list[dict[str, str]] = field(default_factory=list)

    @property
    def messages(self) -> list[dict[str, str]]:
        """The system message, if there is one, and all turns."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self.turns]

    def reset(self) -> None:
        """Forget all turns; the system message stays."""
        self.turns.clear()

    def say(self, text: str) -> Iterator[str]:
        """Say something and yield the answer piece by piece.

        An answer that is broken off stays in the conversation as far as it went; a turn that failed leaves no trace.

        Raises:
            OctavoError: the server refused the request or went away.
        """
        self.turns.append({"role": "user", "content": text})
        pieces: list[str] = []
        try:
            for piece in self._stream():
                pieces.append(piece)
                yield piece
        except OctavoError:
            self.turns.pop()
            raise
        except (GeneratorExit, KeyboardInterrupt):
            self.turns.append({"role": "assistant", "content": "".join(pieces)})
            raise
        self.turns.append({"role": "assistant", "content": "".join(pieces)})

    def _stream(self) -> Iterator[str]:
        body = {"model": self.model, "messages": self.messages, "stream": True, **self.sampling}
        try:
            with self.client.stream("POST", "chat/completions", json=body) as response:
                if not response.is_success:
                    response.read()
                    raise OctavoError(_error_message(response))
                for line in response.iter_lines():
                    yield from _read_event(line)
        except httpx.TransportError as error:
            raise _unreachable(self.client, error) from error


def open_client(url: str, api_key: str | None) -> httpx.Client:
    """Return a client whose paths are relative to the API's ``/v1``; ``url`` may end with it or not."""
    base = url.rstrip("/")
    return httpx.Client(
        base_url=base if base.endswith("/v1") else base + "/v1",
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
    )


def first_model(client: httpx.Client) -> str:
    """Ask a server for the name of the first model that it serves.

    Raises:
        OctavoError: the server cannot be reached, refuses, or names no model.
    """
    try:
        response = client.get("models")
    except httpx.TransportError as error:
        raise _unreachable(client, error) from error
    if not response.is_success:
        raise OctavoError(_error_message(response))
    try:
        name: str = response.json()["data"][0]["id"]
    except (ValueError, LookupError, TypeError):
        raise OctavoError(f"{response.url} does not list a model; is this an OpenAI-compatible API?") from None
    return name


def _read_event(line: str) -> Iterator[str]:
    """Yield the text in one line of a server-sent event stream, if it has some."""
    if not line.startswith("data:") or line == "data: [DONE]":
        return
    event = json.loads(line.removeprefix("data:"))
    if "error" in event:
        raise OctavoError(f"the server ended the answer: {event['error'].get('message', event['error'])}")
    for choice in event.get("choices", []):
        if text := choice["delta"].get("content"):
            yield text


def _error_message(response: httpx.Response) -> str:
    try:
        reason = response.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        reason = response.text.strip()[:200] or response.reason_phrase
    hint = "; name the key with --api-key" if response.status_code == httpx.codes.UNAUTHORIZED else ""
    return f"{response.url} answered {response.status_code}: {reason}{hint}"


def _unreachable(client: httpx.Client, error: httpx.TransportError) -> OctavoError:
    return OctavoError(f"no answer from {client.base_url}: {error or type(error).__name__}. Is a server running there?")
