"""The application of one model server: routes, error answers and the middleware around them."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import Route

from octavo.api.errors import (
    ClientGoneError,
    HTTPError,
    answer_client_gone,
    answer_http_exception,
    answer_octavo_error,
)
from octavo.api.http_counts import CountRequests
from octavo.api.metrics import metrics_router, server_registry
from octavo.api.middleware import Authentication, BodyLimit, ReadinessGate, RequestContext
from octavo.api.openai.chat import chat_router
from octavo.api.openai.completions import completion_router
from octavo.api.openai.embeddings import EmbeddingList, EmbeddingRequest, embedding_router
from octavo.api.openai.lora import LoadLoraAdapterRequest, UnloadLoraAdapterRequest, lora_router
from octavo.api.openai.models import models_router
from octavo.api.openai.requests import ChatCompletionRequest, CompletionRequest
from octavo.api.openai.responses import ChatChunk, ChatCompletion, Completion, ModelCard, ModelList
from octavo.api.openai.service import ModelService
from octavo.api.ops import (
    DetokenizedPrompt,
    DetokenizeRequest,
    Status,
    TokenizeRequest,
    Tokens,
    Version,
    health_router,
    tokenizer_router,
)
from octavo.api.other_models import refusing_router
from octavo.api.ranking import Ranking, RerankRequest, ScoreList, ScoreRequest, ranking_router
from octavo.api.readiness import Readiness
from octavo.api.requests import requests_router
from octavo.api.schema import describe
from octavo.api.timeline import RequestList, Timeline
from octavo.config import ServerConfig
from octavo.config.lora_modules import parse_lora_modules
from octavo.engine.async_llm import AsyncLLM
from octavo.engine.generation_config import GenerationDefaults
from octavo.errors import OctavoError
from octavo.observe.http_metrics import HTTPMetrics
from octavo.observe.metrics import EngineMetrics
from octavo.text import ChatTemplate, load_chat_template
from octavo.text.reasoning_parsers import REASONING_FORMATS
from octavo.text.tool_parsers import TOOL_FORMATS, ToolFormat, detect_tool_format
from octavo.version import __version__


def create_app(
    llm: AsyncLLM, config: ServerConfig, metrics: EngineMetrics | None, readiness: Readiness | None = None
) -> FastAPI:
    """Make the ASGI application that serves ``llm``; starting and stopping the engine is the caller's part.

    Args:
        metrics: those of ``llm``; None if it keeps none.
        readiness: lets the caller say that the server is stopping.

    Raises:
        ConfigError: ``config.chat_template`` cannot be read.
        ModelError: the model's generation_config.json is broken.
    """
    readiness = readiness or Readiness(llm)
    http_metrics = HTTPMetrics()
    registry = server_registry(llm, config.metrics_prefix, metrics, http_metrics)
    chat_template = _chat_template(llm, config)
    service = ModelService(
        llm,
        names=config.served_model_name or [config.model],
        chat_template=chat_template,
        defaults=GenerationDefaults.from_directory(llm.directory),
        tool_format=_tool_format(chat_template, config),
        finds_auto_calls=config.enable_auto_tool_choice,
        reasoning_format=REASONING_FORMATS[config.reasoning_parser] if config.reasoning_parser else None,
        parents={
            module.name: module.base_model_name
            for module in parse_lora_modules(config.lora_modules)
            if module.base_model_name is not None
        },
    )
    app = FastAPI(
        title="Octavo",
        version=__version__,
        description="An OpenAI-compatible server for one language model.",
        docs_url=None,
        redoc_url=None,
    )
    routers = (
        *_model_routers(service),
        models_router(service),
        lora_router(service, is_allowed=config.enable_lora and config.enable_runtime_lora_updating),
        tokenizer_router(service),
        health_router(readiness),
        metrics_router(registry),
        requests_router(service.history),
    )
    for router in routers:
        app.include_router(router)
    describe(
        app,
        [
            *(ChatCompletionRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest),
            *(EmbeddingRequest, RerankRequest, ScoreRequest),
            *(LoadLoraAdapterRequest, UnloadLoraAdapterRequest),
        ],
        [
            *(ChatCompletion, ChatChunk, Completion, ModelList, ModelCard),
            *(EmbeddingList, Ranking, ScoreList),
            *(Tokens, DetokenizedPrompt, Status, Version, RequestList, Timeline),
        ],
    )
    app.add_exception_handler(OctavoError, answer_octavo_error)
    app.add_exception_handler(HTTPError, answer_octavo_error)
    app.add_exception_handler(ClientGoneError, answer_client_gone)
    app.add_exception_handler(HTTPException, answer_http_exception)
    _add_middleware(app, readiness, config)
    paths = [route.path for router in routers for route in router.routes if isinstance(route, Route)]
    app.add_middleware(CountRequests, metrics=http_metrics, routes=paths)
    return app


def _model_routers(service: ModelService) -> tuple[APIRouter, ...]:
    """Return the routes that the model is for, and those that say that it is not for them."""
    pooler = service.llm.pooler
    if pooler is None:
        return chat_router(service), completion_router(service), refusing_router(service.names[0], generates=True)
    is_cross_encoder = pooler.builder.is_cross_encoder
    return (
        embedding_router(service, is_cross_encoder=is_cross_encoder),
        ranking_router(service, is_cross_encoder=is_cross_encoder),
        refusing_router(service.names[0], generates=False),
    )


def _add_middleware(app: FastAPI, readiness: Readiness, config: ServerConfig) -> None:
    """From the inside out: what is added last sees a request first."""
    app.add_middleware(BodyLimit, max_request_bytes=config.max_request_bytes)
    app.add_middleware(ReadinessGate, unavailable=readiness.unavailable_reason)
    if config.api_key:
        app.add_middleware(Authentication, api_keys=config.api_key)
    app.add_middleware(RequestContext)


def _chat_template(llm: AsyncLLM, config: ServerConfig) -> ChatTemplate | None:
    if config.chat_template is None:
        return llm.tokenizer.chat_template
    return llm.tokenizer.make_chat_template(load_chat_template(config.chat_template), origin="--chat-template")


def _tool_format(template: ChatTemplate | None, config: ServerConfig) -> ToolFormat | None:
    if config.tool_call_parser is not None:
        return TOOL_FORMATS[config.tool_call_parser]
    return detect_tool_format(template.tools_source) if template is not None else None
