"""``POST /v1/chat/completions``."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import UNSET

from octavo.api.disconnect import run_until_disconnect
from octavo.api.json_body import read_body
from octavo.api.openai.answer_format import settle_answer_format
from octavo.api.openai.answer_reader import AnswerReader
from octavo.api.openai.beams import BeamGeneration
from octavo.api.openai.logprobs import chat_logprobs, prompt_logprobs
from octavo.api.openai.messages import template_messages
from octavo.api.openai.requests import ChatCompletionRequest
from octavo.api.openai.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatFinishReason,
    Delta,
    Usage,
)
from octavo.api.openai.sampling import beam_search_params, chat_sampling_params
from octavo.api.openai.service import Generation, ModelService, new_id
from octavo.api.openai.structured import field_of_structure
from octavo.api.openai.tool_choice import demands_call
from octavo.api.request_history import RequestStory
from octavo.api.schema import operation
from octavo.api.sse import EventStream, event
from octavo.api.timing_header import add_timing
from octavo.engine.outputs import CompletionOutput, RequestOutput


def chat_router(service: ModelService) -> APIRouter:
    """The chat route of one served model."""
    router = APIRouter()

    @router.post("/v1/chat/completions", **operation(ChatCompletionRequest, ChatCompletion, chunk=ChatChunk))
    async def create_chat_completion(request: Request) -> Response:
        """Answer a conversation."""
        body = await read_body(request, ChatCompletionRequest)
        answer = ChatAnswer(service, body, service.check_name(body.model))
        await answer.prepare()
        if body.stream:
            return add_timing(EventStream(answer.events()), answer.story)
        completion = await run_until_disconnect(request.receive, answer.complete())
        return add_timing(Response(msgspec.json.encode(completion), media_type="application/json"), answer.story)

    return router


class ChatAnswer:
    """One chat request on its way to its answer, whole or as events.

    Attributes:
        story: when what happened to it.
    """

    def __init__(self, service: ModelService, body: ChatCompletionRequest, model: str) -> None:
        self._service = service
        self._body = body
        self._model = model
        self._id = new_id("chatcmpl")
        self.story = RequestStory(self._id, model)
        self._created = int(time.time())
        self._generation: Generation | BeamGeneration
        self._readers: list[AnswerReader]

    async def prepare(self) -> None:
        """Check the request and tokenize its messages.

        Raises:
            RequestError: the request is wrong.
        """
        body = self._body
        sampling_params = chat_sampling_params(body, self._service.defaults)
        tools = [tool.model_dump(exclude_unset=True) for tool in body.tools or []]
        token_ids = await self._service.chat_token_ids(
            template_messages(body.messages),
            tools=tools if tools and body.tool_choice != "none" else None,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
            template_kwargs=body.chat_template_kwargs,
        )
        form = settle_answer_format(body, self._service, token_ids, sampling_params)
        self._readers = [AnswerReader(form, self._service.llm.tokenizer) for _ in range(body.n or 1)]
        if body.use_beam_search:
            self._generation = BeamGeneration(
                self._service,
                [token_ids],
                beam_search_params(body, sampling_params.max_tokens),
                self.story,
                prompt_param="messages",
                skip_special_tokens=body.skip_special_tokens,
                priority=body.priority,
                cache_salt=body.cache_salt or "",
            )
            return
        self._generation = Generation(
            self._service,
            [token_ids],
            sampling_params,
            self.story,
            prompt_param="messages",
            priority=body.priority,
            cache_salt=body.cache_salt or "",
            structure_param="tools" if demands_call(body.tool_choice) else field_of_structure(body),
        )

    async def complete(self) -> ChatCompletion:
        """Return the whole answer."""
        output = (await self._generation.final())[0]
        wants_ids, wants_prompt = self._body.return_token_ids, self._body.prompt_logprobs is not None
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[self._choice(sequence) for sequence in output.outputs],
            usage=self._usage(),
            prompt_logprobs=prompt_logprobs(output.prompt_logprobs or []) if wants_prompt else UNSET,
            prompt_token_ids=output.prompt_token_ids if wants_ids else UNSET,
        )

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer as events: the role, what is new, the reason of the end, and the usage if it is wanted."""
        assert isinstance(self._generation, Generation)
        roles_sent = False
        async with aclosing(self._generation.outputs()) as outputs:
            async for _, output in outputs:
                written = self._events_of(output)
                if not roles_sent:
                    written = self._role_events(output) + written
                    roles_sent = True
                if written:
                    yield written
        if self._body.includes_usage:
            yield event(self._chunk([], self._usage()))

    def _usage(self) -> Usage:
        self._generation.meter.num_reasoning_tokens = sum(reader.num_reasoning_tokens for reader in self._readers)
        return self._generation.meter.usage()

    def _choice(self, sequence: CompletionOutput) -> ChatChoice:
        return ChatChoice(
            index=sequence.index,
            message=self._readers[sequence.index].message(sequence),
            finish_reason=self._finish_reason(sequence),
            logprobs=chat_logprobs(sequence, self._body.num_logprobs, self._service.llm.tokenizer),
            stop_reason=sequence.stop_reason,
            token_ids=sequence.token_ids if self._body.return_token_ids else UNSET,
        )

    def _role_events(self, output: RequestOutput) -> bytes:
        first = Delta(role="assistant", content="")
        chunks = [self._chunk([ChatChunkChoice(index, first)]) for index in range(self._body.n or 1)]
        if self._body.return_token_ids:
            chunks[0].prompt_token_ids = output.prompt_token_ids
        return b"".join(map(event, chunks))

    def _events_of(self, output: RequestOutput) -> bytes:
        written = []
        for sequence in output.outputs:
            logprobs = chat_logprobs(sequence, self._body.num_logprobs, self._service.llm.tokenizer)
            token_ids = sequence.token_ids if self._body.return_token_ids else UNSET
            deltas = self._readers[sequence.index].deltas(sequence)
            if not deltas and (logprobs is not None or token_ids):
                deltas = [Delta(content="")]
            for delta in deltas:
                choice = ChatChunkChoice(sequence.index, delta, logprobs, token_ids=token_ids)
                written.append(event(self._chunk([choice])))
                logprobs, token_ids = None, UNSET
            if sequence.finish_reason is not None:
                reason = self._finish_reason(sequence)
                end = ChatChunkChoice(sequence.index, Delta(), None, reason, sequence.stop_reason)
                written.append(event(self._chunk([end])))
        return b"".join(written)

    def _finish_reason(self, sequence: CompletionOutput) -> ChatFinishReason:
        assert sequence.finish_reason in ("stop", "length")
        has_calls = self._readers[sequence.index].num_calls > 0
        return "tool_calls" if has_calls and sequence.finish_reason == "stop" else sequence.finish_reason

    def _chunk(self, choices: list[ChatChunkChoice], usage: Usage | None = None) -> ChatChunk:
        if self._body.includes_running_usage:
            usage = self._generation.meter.usage()
        return ChatChunk(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=choices,
            usage=usage if self._body.includes_usage else UNSET,
        )
