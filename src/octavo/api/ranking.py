"""``/rerank`` and ``/score``: how well texts fit, in the shapes of Jina, Cohere and vLLM.

A cross-encoder reads both texts of a pair together; with an embedding model the score is the cosine of two vectors.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import UNSET, UnsetType
from pydantic import Field

from octavo.api.fields import StrictModel
from octavo.api.json_body import read_body
from octavo.api.openai.service import ModelService, new_id
from octavo.api.pooling_service import MAX_TEXTS, PoolingRun, PoolingUsage, Texts, TruncatePromptTokens, usage_of
from octavo.api.request_history import RequestStory
from octavo.api.schema import operation
from octavo.engine.pooling.outputs import PoolingRequestOutput, ScoringRequestOutput
from octavo.engine.pooling.params import PoolingParams
from octavo.engine.pooling.scores import plan_scores

RERANK_PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")
SCORE_PATHS = ("/v1/score", "/score")


class TextDocument(StrictModel):
    """A document as an object, as Jina and older clients of Cohere send it."""

    text: str


class RerankRequest(StrictModel):
    """Body of ``POST /v1/rerank``."""

    model: str | None = Field(None, description="A name that /v1/models lists; may be left out.")
    query: str
    documents: Annotated[list[str | TextDocument], Field(min_length=1, max_length=MAX_TEXTS)]
    top_n: int | None = Field(None, ge=0, le=2**31 - 1, description="Give the best so many only; 0 is all.")
    return_documents: bool = Field(True, description="Repeat the documents in the answer.")
    truncate_prompt_tokens: TruncatePromptTokens = None


class ScoreRequest(StrictModel):
    """Body of ``POST /v1/score``: one text against one or many, or many against as many."""

    model: str | None = Field(None, description="A name that /v1/models lists; may be left out.")
    text_1: str | Texts
    text_2: str | Texts
    truncate_prompt_tokens: TruncatePromptTokens = None


class RankedDocument(msgspec.Struct, kw_only=True):
    """One document and its place in the request."""

    index: int
    document: dict[str, str] | UnsetType = UNSET
    relevance_score: float


class Ranking(msgspec.Struct, kw_only=True):
    """Answer of ``POST /v1/rerank``: the documents, best first."""

    id: str
    model: str
    usage: PoolingUsage
    results: list[RankedDocument]


class Score(msgspec.Struct, kw_only=True):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreList(msgspec.Struct, kw_only=True):
    """Answer of ``POST /v1/score``."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: PoolingUsage


def ranking_router(service: ModelService, *, is_cross_encoder: bool) -> APIRouter:
    """The routes that compare texts."""
    router = APIRouter()

    async def scored(
        request: Request, run: PoolingRun, first: list[str], second: list[str], truncate: int | None
    ) -> tuple[list[ScoringRequestOutput], list[PoolingRequestOutput]]:
        plan = plan_scores(first, second, is_cross_encoder=is_cross_encoder)
        params = PoolingParams(truncate_prompt_tokens=truncate)
        outputs = await run.compute(request, plan.prompts, params)
        return plan.finish(outputs), outputs

    async def rerank(request: Request) -> Response:
        """Sort documents by how well they fit a query."""
        body = await read_body(request, RerankRequest)
        model = service.check_name(body.model)
        run = PoolingRun(service, RequestStory(new_id("rerank"), model), "documents")
        documents = [item if isinstance(item, str) else item.text for item in body.documents]
        scores, outputs = await scored(request, run, [body.query], documents, body.truncate_prompt_tokens)
        results = [
            RankedDocument(
                index=index,
                document={"text": documents[index]} if body.return_documents else UNSET,
                relevance_score=score.outputs.score,
            )
            for index, score in enumerate(scores)
        ]
        results.sort(key=lambda result: -result.relevance_score)
        best = results[: body.top_n or None]
        return run.answer(Ranking(id=run.story.id, model=model, usage=usage_of(outputs), results=best))

    async def score(request: Request) -> Response:
        """Say how well texts fit."""
        body = await read_body(request, ScoreRequest)
        model = service.check_name(body.model)
        run = PoolingRun(service, RequestStory(new_id("score"), model), "text_2")
        first, second = ([text] if isinstance(text, str) else text for text in (body.text_1, body.text_2))
        scores, outputs = await scored(request, run, first, second, body.truncate_prompt_tokens)
        answer = ScoreList(
            id=run.story.id,
            created=int(time.time()),
            model=model,
            data=[Score(index=index, score=item.outputs.score) for index, item in enumerate(scores)],
            usage=usage_of(outputs),
        )
        return run.answer(answer)

    for path in RERANK_PATHS:
        router.post(path, **operation(RerankRequest, Ranking))(rerank)
    for path in SCORE_PATHS:
        router.post(path, **operation(ScoreRequest, ScoreList))(score)
    return router
