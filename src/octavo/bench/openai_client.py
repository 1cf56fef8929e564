"""Speaks OpenAI's HTTP API to any server that has it, and the operators' routes of those that have them."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from octavo.bench.answers import Answer, error_message
from octavo.bench.http_client import Exchange, HttpClient, TransferError
from octavo.bench.serve_settings import Target
from octavo.errors import OctavoError

Message = dict[str, Any]
Prompt = str | list[int] | list[Message]
"""A text or token ids (completions), or messages (chat)."""

_GPU_MEMORY_METRIC = "gpu_memory_used_bytes"
_UNAUTHORIZED = 401
_DROPS_IGNORE_EOS = "--no-ignore-eos leaves ignore_eos and min_tokens out of the requests"
_HINTS = {
    "ignore_eos": _DROPS_IGNORE_EOS,
    "min_tokens": _DROPS_IGNORE_EOS,
    "stream_options": "--extra-body '{\"stream_options\": null}' leaves stream_options out of the requests",
    "max_completion_tokens": '--extra-body \'{"max_tokens": null, "max_completion_tokens": N}\' sends the newer field',
}


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class OpenAIClient:
    """One server, asked as a target says; use it as an async context manager.

    Raises:
        ConfigError: the target's URL or a header is wrong.
    """

    def __init__(self, target: Target) -> None:
        key = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
        root = target.base_url.rstrip("/").removesuffix("/v1")
        self._http = HttpClient(root, headers={**key, **target.headers}, timeout_s=target.timeout_s)
        self._target = target

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.close()

    def encode(self, model: str, prompt: Prompt, output_tokens: int | None, *, ignore_eos: bool) -> bytes:
        """Return the body of a request for an answer.

        Args:
            output_tokens: most tokens of the answer; with ``ignore_eos`` the least, too. None leaves it to the server.
        """
        target = self._target
        fields: dict[str, Any] = {"model": model, "messages" if target.is_chat else "prompt": prompt}
        if output_tokens is not None:
            fields["max_tokens"] = output_tokens
            if ignore_eos:
                fields |= {"ignore_eos": True, "min_tokens": output_tokens}
        if target.temperature is not None:
            fields["temperature"] = target.temperature
        if target.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        fields |= target.extra_body
        return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})

    async def ask(self, body: bytes, exchange: Exchange, answer: Answer) -> None:
        """Send a request and fill exchange and answer while they come; failures are noted in the answer."""
        if self._target.stream:
            exchange.reader = answer.read_stream
        try:
            await self._http.request("POST", self._target.endpoint, body, exchange=exchange)
        except TransferError as error:
            answer.error, answer.error_message = error.kind, str(error)
            return
        if not exchange.is_success:
            answer.error, answer.error_message = f"http_{exchange.status}", _refusal(exchange)
        elif self._target.stream:
            answer.end_stream(exchange.finished_at)
        else:
            answer.read_whole(bytes(exchange.body))

    async def first_model(self) -> str:
        """Ask for the first model that the server lists.

        Raises:
            OctavoError: the server cannot be reached, refuses, or names no model.
        """
        url = f"{self._http.base_url}/v1/models"
        try:
            exchange = await self._http.request("GET", "/v1/models")
        except TransferError as error:
            raise OctavoError(f"no answer from {url}: {error}. Is a server running there?") from error
        if not exchange.is_success:
            raise OctavoError(f"{url} answered {exchange.status}: {_refusal(exchange)}")
        try:
            return msgspec.json.decode(bytes(exchange.body), type=_Models).data[0].id
        except (msgspec.DecodeError, LookupError):
            raise OctavoError(f"{url} does not list a model: name one with --model") from None

    async def tokenize(self, model: str, prompt: str | list[Message]) -> list[int] | None:
        """Return the token ids of a prompt as the server counts them; None if it has no such route (vLLM's)."""
        form: dict[str, Any] = {"model": model, "prompt" if isinstance(prompt, str) else "messages": prompt}
        try:
            exchange = await self._http.request("POST", "/tokenize", msgspec.json.encode(form))
            if not exchange.is_success:
                return None
            return msgspec.json.decode(bytes(exchange.body), type=_Tokens).tokens or None
        except (TransferError, msgspec.DecodeError):
            return None

    async def gpu_memory_used_bytes(self) -> int | None:
        """Return what the server's metrics say about its GPUs' memory, all of them together; None if nothing."""
        try:
            exchange = await self._http.request("GET", "/metrics")
        except TransferError:
            return None
        values = [
            float(line.rpartition(" ")[2])
            for line in exchange.body.decode(errors="replace").splitlines()
            if exchange.is_success and line.partition("{")[0].partition(" ")[0].endswith(_GPU_MEMORY_METRIC)
        ]
        return int(sum(values)) if values else None


def _refusal(exchange: Exchange) -> str:
    """Return why the server refused, and which flag would help."""
    message = error_message(bytes(exchange.body))
    if exchange.status == _UNAUTHORIZED:
        return f"{message} (name the key with --api-key or OPENAI_API_KEY)"
    if exchange.status in (400, 422):
        for field, hint in _HINTS.items():
            if field in message:
                return f"{message} ({hint})"
    return message
