"""``POST /v1/completions``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import UNSET

from octavo.api.disconnect import run_until_disconnect
from octavo.api.json_body import read_body
from octavo.api.openai.beams import BeamGeneration
from octavo.api.openai.logprobs import completion_logprobs, prompt_logprobs, token_text_length
from octavo.api.openai.requests import CompletionRequest
from octavo.api.openai.responses import Completion, CompletionChoice, CompletionLogprobs, Usage
from octavo.api.openai.sampling import beam_search_params, completion_sampling_params
from octavo.api.openai.service import Generation, ModelService, new_id
from octavo.api.openai.structured import field_of_structure
from octavo.api.request_history import RequestStory
from octavo.api.schema import operation
from octavo.api.sse import EventStream, event
from octavo.api.timing_header import add_timing
from octavo.engine.outputs import CompletionOutput, Logprob, RequestOutput


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
        self._begun: set[int] = set()
        self._generation: Generation | BeamGeneration
        if body.use_beam_search:
            self._generation = BeamGeneration(
                service,
                body.prompts,
                beam_search_params(body, body.max_tokens),
                self.story,
                prompt_param="prompt",
                skip_special_tokens=body.skip_special_tokens,
                priority=body.priority,
                cache_salt=body.cache_salt or "",
            )
            return
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
            self._choice(prompt_index, output, sequence)
            for prompt_index, output in enumerate(await self._generation.final())
            for sequence in _best(output.outputs, self._body.n or 1)
        ]
        return self._completion(choices, self._generation.meter.usage())

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer as events: what is new, and the usage if it is wanted."""
        assert isinstance(self._generation, Generation)
        async with aclosing(self._generation.outputs()) as outputs:
            async for prompt_index, output in outputs:
                written = b"".join(
                    event(self._completion([choice], self._running_usage()))
                    for choice in self._new_choices(prompt_index, output)
                )
                if written:
                    yield written
        if self._body.includes_usage:
            yield event(self._completion([], self._generation.meter.usage()))

    def _running_usage(self) -> Usage | msgspec.UnsetType | None:
        if self._body.includes_running_usage:
            return self._generation.meter.usage()
        return None if self._body.includes_usage else UNSET

    def _new_choices(self, prompt_index: int, output: RequestOutput) -> list[CompletionChoice]:
        return [
            self._choice(prompt_index, output, sequence)
            for sequence in output.outputs
            if sequence.text or sequence.token_ids or sequence.finish_reason
        ]

    def _choice(self, prompt_index: int, output: RequestOutput, sequence: CompletionOutput) -> CompletionChoice:
        body = self._body
        index = prompt_index * (body.n or 1) + sequence.index
        is_first = index not in self._begun
        self._begun.add(index)
        finish_reason = sequence.finish_reason
        assert finish_reason != "abort"
        choice = CompletionChoice(index, sequence.text, None, finish_reason, sequence.stop_reason)
        token_ids = sequence.token_ids
        positions: list[dict[int, Logprob] | None] = [*(sequence.logprobs or [])]
        if body.max_tokens == 0:  # one token was generated, since an engine does nothing less
            choice.text, choice.finish_reason, choice.stop_reason = "", "length", None
            token_ids, positions = [], []
        if body.return_token_ids:
            choice.token_ids = token_ids
            if is_first:
                choice.prompt_token_ids = output.prompt_token_ids
        if body.prompt_logprobs is not None:
            choice.prompt_logprobs = prompt_logprobs(output.prompt_logprobs or [])
        if body.echo and is_first:
            choice.text = self._prompt_text(prompt_index, output) + choice.text
        if body.logprobs is not None:
            if body.echo and is_first:
                token_ids = output.prompt_token_ids + token_ids
                positions = [*(output.prompt_logprobs or []), *positions]
            choice.logprobs = self._logprobs(index, token_ids, positions)
        return choice

    def _logprobs(
        self, index: int, token_ids: list[int], positions: Sequence[dict[int, Logprob] | None]
    ) -> CompletionLogprobs:
        offset = self._text_lengths[index]
        self._text_lengths[index] += token_text_length(token_ids, self._tokenizer)
        return completion_logprobs(token_ids, positions, offset, self._tokenizer)

    def _prompt_text(self, prompt_index: int, output: RequestOutput) -> str:
        prompt = self._body.prompts[prompt_index]
        if isinstance(prompt, str) and self._body.truncate_prompt_tokens is None:
            return prompt
        return self._tokenizer.decode(output.prompt_token_ids, skip_special_tokens=self._body.skip_special_tokens)

    def _completion(self, choices: list[CompletionChoice], usage: Usage | msgspec.UnsetType | None) -> Completion:
        return Completion(id=self._id, created=self._created, model=self._model, choices=choices, usage=usage)


def _best(sequences: list[CompletionOutput], n: int) -> list[CompletionOutput]:
    """Return the ``n`` sequences that are the most likely per token, numbered anew; all if there are no more."""
    if len(sequences) <= n:
        return sequences
    ordered = sorted(
        sequences, key=lambda sequence: (sequence.cumulative_logprob or 0.0) / len(sequence.token_ids), reverse=True
    )
    return [replace(sequence, index=index) for index, sequence in enumerate(ordered[:n])]
