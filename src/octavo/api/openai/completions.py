"""``POST /v1/completions``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import UNSET

from octavo.api.disconnect import run_until_disconnect
from octavo.api.json_body import read_body
from octavo.api.openai.logprobs import completion_logprobs, token_text_length
from octavo.api.openai.requests import CompletionRequest
from octavo.api.openai.responses import Completion, CompletionChoice, Usage
from octavo.api.openai.sampling import completion_sampling_params
from octavo.api.openai.service import Generation, ModelService, new_id
from octavo.api.openai.structured import field_of_structure
from octavo.api.request_history import RequestStory
from octavo.api.schema import operation
from octavo.api.sse import EventStream, event
from octavo.api.timing_header import add_timing
from octavo.engine.outputs import CompletionOutput, RequestOutput


def completion_router(service: ModelService) -> APIRouter:
    """The completion route of one served model."""
    router = APIRouter()

    @router.post("/v1/completions", **operation(CompletionRequest, Completion, chunk=Completion))
    async def create_completion(request: Request) -> Response:
        """Continue one or more prompts."""
        body = await read_body(request, CompletionRequest)
        answer = CompletionAnswer(service, body, service.check_name(body.model))
        if body.stream:
            return add_timing(EventStream(answer.events()), answer.story)
        completion = await run_until_disconnect(request.receive, answer.complete())
        return add_timing(Response(msgspec.json.encode(completion), media_type="application/json"), answer.story)

    return router


class CompletionAnswer:
    """One completion request on its way to its answer, whole or as events.

    Choice ``i * n + j`` is the ``j``-th answer to the ``i``-th prompt.

    Attributes:
        story: when what happened to it.

    Raises:
        RequestError: the request is wrong.
    """

    def __init__(self, service: ModelService, body: CompletionRequest, model: str) -> None:
        self._tokenizer = service.llm.tokenizer
        self._body = body
        self._model = model
        self._id = new_id("cmpl")
        self.story = RequestStory(self._id, model)
        self._created = int(time.time())
        self._text_lengths: defaultdict[int, int] = defaultdict(int)
        self._generation = Generation(
            service,
            body.prompts,
            completion_sampling_params(body, service.defaults),
            self.story,
            prompt_param="prompt",
            priority=body.priority,
            cache_salt=body.cache_salt or "",
            structure_param=field_of_structure(body),
        )

    async def complete(self) -> Completion:
        """Return the whole answer."""
        choices = [
            self._choice(prompt_index, sequence)
            for prompt_index, output in enumerate(await self._generation.final())
            for sequence in output.outputs
        ]
        return self._completion(choices, self._generation.meter.usage())

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer as events: what is new, and the usage if it is wanted."""
        usage = None if self._body.includes_usage else UNSET
        async with aclosing(self._generation.outputs()) as outputs:
            async for prompt_index, output in outputs:
                written = b"".join(
                    event(self._completion([choice], usage)) for choice in self._new_choices(prompt_index, output)
                )
                if written:
                    yield written
        if self._body.includes_usage:
            yield event(self._completion([], self._generation.meter.usage()))

    def _new_choices(self, prompt_index: int, output: RequestOutput) -> list[CompletionChoice]:
        return [
            self._choice(prompt_index, sequence)
            for sequence in output.outputs
            if sequence.text or sequence.logprobs or sequence.finish_reason
        ]

    def _choice(self, prompt_index: int, sequence: CompletionOutput) -> CompletionChoice:
        index = prompt_index * (self._body.n or 1) + sequence.index
        logprobs = completion_logprobs(sequence, self._text_lengths[index], self._tokenizer)
        self._text_lengths[index] += token_text_length(sequence)
        finish_reason = sequence.finish_reason
        assert finish_reason != "abort"
        return CompletionChoice(index, sequence.text, logprobs, finish_reason, sequence.stop_reason)

    def _completion(self, choices: list[CompletionChoice], usage: Usage | msgspec.UnsetType | None) -> Completion:
        return Completion(id=self._id, created=self._created, model=self._model, choices=choices, usage=usage)
