"""Routes of models of another kind than the served one: they say so, and name those that there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, Request, Response

from octavo.api.ranking import RERANK_PATHS, SCORE_PATHS
from octavo.errors import RequestError

GENERATING_PATHS = ("/v1/chat/completions", "/v1/completions")
POOLING_PATHS = ("/v1/embeddings", *RERANK_PATHS, *SCORE_PATHS)


def refusing_router(name: str, *, generates: bool) -> APIRouter:
    """The routes that a model called ``name`` cannot answer."""
    refused, served = (POOLING_PATHS, GENERATING_PATHS) if generates else (GENERATING_PATHS, POOLING_PATHS)
    router = APIRouter()
    for path in refused:
        router.post(path, include_in_schema=False)(_refusal(name, served, generates=generates))
    return router


def _refusal(name: str, served: Sequence[str], *, generates: bool) -> Callable[[Request], Awaitable[Response]]:
    does = (
        "generates text and makes no vectors or scores"
        if generates
        else "makes vectors or scores and generates no text"
    )

    async def refuse(request: Request) -> Response:
        """Say that the model is of another kind."""
        raise RequestError(
            f"The model {name!r} {does}, so {request.url.path} is not for it; use {', '.join(served)}.",
            code="unsupported_for_model",
        )

    return refuse
