"""What the routes for vectors and scores share: from the texts of one HTTP request to the engine's results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from octavo.api.disconnect import run_until_disconnect
from octavo.api.openai.service import ModelService
from octavo.api.request_history import RequestStory
from octavo.api.timing_header import add_timing
from octavo.engine.pooling.outputs import PoolingRequestOutput
from octavo.engine.pooling.params import PoolingParams
from octavo.errors import RequestError

if TYPE_CHECKING:
    from octavo.engine.pooling.request_builder import PoolingPrompt

MAX_TEXTS = 2048
"""Texts in one request, as OpenAI has it."""

TruncatePromptTokens = Annotated[
    int | None,
    Field(ge=-1, le=2**31 - 1, description="Cut longer texts to so many tokens; -1 is what the model takes."),
]
Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]


class PoolingUsage(msgspec.Struct):
    """Tokens of one request; nothing is generated."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


@dataclass(frozen=True)
class PoolingRun:
    """The texts of one HTTP request on their way through the engine.

    Attributes:
        story: where what happens is written down.
        prompt_param: the request field that holds the texts, for errors about them.
    """

    service: ModelService
    story: RequestStory
    prompt_param: str

    async def compute(
        self, request: Request, prompts: Sequence[PoolingPrompt], params: PoolingParams
    ) -> list[PoolingRequestOutput]:
        """Return the results in order; when the client goes, the engine drops what it has not computed.

        Raises:
            RequestError: a text is refused; ``param`` names the field.
            QueueFullError: the engine takes no more requests.
            EngineDeadError: the engine ended.
            ClientGoneError: the client has closed the connection.
        """
        return await run_until_disconnect(request.receive, self._compute(prompts, params))

    async def _compute(self, prompts: Sequence[PoolingPrompt], params: PoolingParams) -> list[PoolingRequestOutput]:
        timings = self.story.begin(len(prompts))
        self.service.history.add(self.story)
        try:
            return await self.service.llm.encode(prompts, params, self.story.id, timings=timings)
        except RequestError as error:
            if error.param == "prompt":
                error.param = self.prompt_param
            raise
        finally:
            self.service.history.end(self.story)

    def answer(self, body: msgspec.Struct) -> Response:
        """Write an answer, with what it took."""
        return add_timing(Response(msgspec.json.encode(body), media_type="application/json"), self.story)


def usage_of(outputs: Sequence[PoolingRequestOutput]) -> PoolingUsage:
    """Return the tokens that the engine read."""
    num_tokens = sum(len(output.prompt_token_ids) for output in outputs)
    return PoolingUsage(num_tokens, num_tokens)
