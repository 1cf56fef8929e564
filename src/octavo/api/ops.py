"""The routes for operators and tools: health, version, and the tokenizer over HTTP."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from octavo.api.errors import error_response
from octavo.api.fields import StrictModel, TokenId, request_error
from octavo.api.json_body import read_body
from octavo.api.middleware import unavailable_error
from octavo.api.openai.messages import Message, Tool, template_messages
from octavo.api.openai.requests import TemplateKwargs
from octavo.api.openai.service import ModelService
from octavo.api.readiness import Readiness
from octavo.api.schema import operation
from octavo.version import __version__


class TokenizeRequest(StrictModel):
    """Body of ``POST /tokenize``: a text, or messages as the chat template writes them."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1)
    tools: list[Tool] | None = None
    add_special_tokens: bool | None = Field(None, description="True by default for a prompt, false for messages.")
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: TemplateKwargs | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _check_one_input(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise request_error("Send either prompt or messages.", param="prompt")
        return self


class DetokenizeRequest(StrictModel):
    """Body of ``POST /detokenize``."""

    model: str | None = None
    tokens: list[TokenId]


class Tokens(msgspec.Struct):
    """Answer of ``POST /tokenize``."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizedPrompt(msgspec.Struct):
    """Answer of ``POST /detokenize``."""

    prompt: str


class Status(msgspec.Struct):
    """Answer of ``GET /health`` and ``GET /live``."""

    status: str


class Version(msgspec.Struct):
    """Answer of ``GET /version``."""

    version: str


def health_router(readiness: Readiness) -> APIRouter:
    """What probes ask."""
    router = APIRouter()

    @router.get("/health", **operation(None, Status, errors=(503,)))
    async def health() -> Response:
        """Say whether requests can be answered now."""
        reason = readiness.unavailable_reason()
        return _json(Status("ready")) if reason is None else error_response(unavailable_error(reason))

    @router.get("/live", **operation(None, Status, errors=()))
    async def live() -> Response:
        """Say that the process runs."""
        return _json(Status("live"))

    @router.get("/version", **operation(None, Version, errors=()))
    async def version() -> Response:
        """Say which Octavo this is."""
        return _json(Version(__version__))

    return router


def tokenizer_router(service: ModelService) -> APIRouter:
    """The model's tokenizer over HTTP, in vLLM's shapes."""
    router = APIRouter()

    @router.post("/tokenize", **operation(TokenizeRequest, Tokens))
    async def tokenize(request: Request) -> Response:
        """Turn a text or messages into token ids."""
        body = await read_body(request, TokenizeRequest)
        service.check_name(body.model)
        token_ids = await _token_ids(service, body)
        texts = [service.llm.tokenizer.token_text(token_id) for token_id in token_ids]
        return _json(
            Tokens(len(token_ids), service.llm.max_model_len, token_ids, texts if body.return_token_strs else None)
        )

    @router.post("/detokenize", **operation(DetokenizeRequest, DetokenizedPrompt))
    async def detokenize(request: Request) -> Response:
        """Turn token ids into text."""
        body = await read_body(request, DetokenizeRequest)
        service.check_name(body.model)
        return _json(DetokenizedPrompt(service.llm.tokenizer.decode(body.tokens, skip_special_tokens=False)))

    return router


async def _token_ids(service: ModelService, body: TokenizeRequest) -> list[int]:
    if body.prompt is not None:
        return await service.encode(body.prompt, add_special_tokens=body.add_special_tokens is not False)
    tools = [tool.model_dump(exclude_unset=True) for tool in body.tools or []]
    return await service.chat_token_ids(
        template_messages(body.messages or []),
        tools=tools or None,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
        template_kwargs=body.chat_template_kwargs,
        add_special_tokens=bool(body.add_special_tokens),
    )


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
