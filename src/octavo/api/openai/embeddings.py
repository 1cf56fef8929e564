"""``POST /v1/embeddings``: OpenAI's fields and vLLM's additions."""

from __future__ import annotations

import base64
import time
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import Field

from octavo.api.fields import StrictModel, TokenId
from octavo.api.json_body import read_body
from octavo.api.openai.requests import TokenIds
from octavo.api.openai.service import ModelService, new_id
from octavo.api.pooling_service import MAX_TEXTS, PoolingRun, PoolingUsage, Texts, TruncatePromptTokens, usage_of
from octavo.api.request_history import RequestStory
from octavo.api.schema import operation
from octavo.engine.pooling.outputs import PoolingOutput
from octavo.engine.pooling.params import PoolingParams
from octavo.errors import RequestError


class EmbeddingRequest(StrictModel):
    """Body of ``POST /v1/embeddings``."""

    model: str | None = Field(None, description="A name that /v1/models lists; may be left out.")
    input: (
        str
        | Texts
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[str | TokenIds], Field(min_length=1, max_length=MAX_TEXTS)]
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Numbers, or base64 of little-endian float32."
    )
    dimensions: int | None = Field(
        None, ge=1, le=2**31 - 1, description="Cut the vectors to so many numbers, and scale them again."
    )
    user: str | None = Field(None, description="Accepted without effect.")
    normalize: bool | None = Field(
        None, description="Scale vectors to length 1; by default what the model's files say."
    )
    truncate_prompt_tokens: TruncatePromptTokens = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The texts, one each."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [[token for token in self.input if isinstance(token, int)]]
        return [item for item in self.input if not isinstance(item, int)]


class Embedding(msgspec.Struct, kw_only=True):
    """The vector of one text: numbers, or base64 of them."""

    index: int
    object: Literal["embedding"] = "embedding"
    embedding: list[float] | str


class EmbeddingList(msgspec.Struct, kw_only=True):
    """Answer of ``POST /v1/embeddings``."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Embedding]
    usage: PoolingUsage


def embedding_router(service: ModelService, *, is_cross_encoder: bool) -> APIRouter:
    """The embedding route of one served model."""
    router = APIRouter()

    @router.post("/v1/embeddings", **operation(EmbeddingRequest, EmbeddingList))
    async def create_embeddings(request: Request) -> Response:
        """Make a vector of each text."""
        body = await read_body(request, EmbeddingRequest)
        model = service.check_name(body.model)
        if is_cross_encoder:
            raise RequestError(
                f"The model {model!r} is a cross-encoder: it scores pairs of texts and makes no vectors. Use "
                "/v1/rerank or /v1/score.",
                code="unsupported_for_model",
            )
        params = PoolingParams(body.dimensions, body.normalize, body.truncate_prompt_tokens)
        run = PoolingRun(service, RequestStory(new_id("embd"), model), "input")
        outputs = await run.compute(request, body.prompts, params)
        answer = EmbeddingList(
            id=run.story.id,
            created=int(time.time()),
            model=model,
            data=[
                Embedding(index=index, embedding=_encoded(output.outputs, body.encoding_format))
                for index, output in enumerate(outputs)
            ],
            usage=usage_of(outputs),
        )
        return run.answer(answer)

    return router


def _encoded(output: PoolingOutput, encoding_format: Literal["float", "base64"]) -> list[float] | str:
    if encoding_format == "float":
        numbers: list[float] = output.data.tolist()
        return numbers
    return base64.b64encode(output.data.astype("<f4").tobytes()).decode()
