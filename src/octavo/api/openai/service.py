"""What the OpenAI routes share: the model's names and defaults, and the way from prompts to engine outputs."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from octavo.api.disconnect import merge
from octavo.api.openai.responses import CompletionTokensDetails, PromptTokensDetails, Usage
from octavo.api.request_history import RequestHistory, RequestStory
from octavo.engine.async_llm import AsyncLLM
from octavo.engine.generation_config import GenerationDefaults
from octavo.engine.lora.request import LoRARequest
from octavo.engine.outputs import RequestOutput
from octavo.engine.sampling_params import SamplingParams
from octavo.errors import EngineDeadError, RequestError, UnknownModelError
from octavo.text import ChatTemplate
from octavo.text.reasoning_parsers import ReasoningFormat
from octavo.text.tool_parsers import ToolFormat

_LONG_TEXT = 10_000


@dataclass(frozen=True)
class ModelService:
    """One served model.

    Attributes:
        names: what clients may call it; the first is its name in answers to requests that name none.
        created: when the server started, in seconds since 1970.
        history: requests that run, and those that ran last.
        tool_format: how the model writes tool calls; None if that is not known.
        finds_auto_calls: whether calls are looked for in answers with the tool choice "auto".
        reasoning_format: how the model writes its reasoning; None if it is not told from the answer.
        parents: what LoRA adapters name as the model that they belong to, if not ``names[0]``.
    """

    llm: AsyncLLM
    names: Sequence[str]
    chat_template: ChatTemplate | None
    defaults: GenerationDefaults
    created: int = field(default_factory=lambda: int(time.time()))
    history: RequestHistory = field(default_factory=RequestHistory)
    tool_format: ToolFormat | None = None
    finds_auto_calls: bool = True
    reasoning_format: ReasoningFormat | None = None
    parents: Mapping[str, str] = field(default_factory=dict)

    @property
    def adapter_names(self) -> list[str]:
        """Names of the LoRA adapters that can be asked for now."""
        return [adapter.lora_name for adapter in self.llm.adapters.all()]

    def check_name(self, name: str | None) -> str:
        """Return the name to answer with.

        Raises:
            UnknownModelError: this server does not serve a model of that name.
        """
        if name is None:
            return self.names[0]
        self.adapter(name)
        return name

    def adapter(self, name: str) -> LoRARequest | None:
        """Return the LoRA adapter of a name; None is the model itself.

        Raises:
            UnknownModelError: this server does not serve a model of that name.
        """
        if name in self.names:
            return None
        adapter = self.llm.adapters.find(name)
        if adapter is None:
            served = ", ".join(repr(known) for known in (*self.names, *self.adapter_names))
            raise UnknownModelError(f"The model {name!r} is not served here; this server has {served}.", param="model")
        return adapter

    async def chat_token_ids(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None,
        add_generation_prompt: bool,
        continue_final_message: bool,
        template_kwargs: dict[str, Any] | None,
        add_special_tokens: bool = False,
    ) -> list[int]:
        """Write messages as the model's chat template does, and tokenize the result.

        Raises:
            RequestError: the model has no chat template, or the template refuses the messages.
        """
        if self.chat_template is None:
            raise RequestError(
                f"The model {self.names[0]!r} has no chat template. Use /v1/completions, or start the server with "
                "--chat-template.",
                param="messages",
            )
        text = self.chat_template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **(template_kwargs or {}),
        )
        return await self.encode(text, add_special_tokens=add_special_tokens)

    async def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Tokenize; long texts in a thread, so that other requests go on meanwhile."""
        if len(text) < _LONG_TEXT:
            return self.llm.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return await asyncio.to_thread(self.llm.tokenizer.encode, text, add_special_tokens=add_special_tokens)


class UsageMeter:
    """Counts the tokens of one HTTP request while its outputs come.

    Attributes:
        num_reasoning_tokens: set by who can tell; None where nobody can.
    """

    def __init__(self) -> None:
        self.num_reasoning_tokens: int | None = None
        self._num_prompt_tokens: dict[int, int] = {}
        self._num_cached_tokens: dict[int, int] = {}
        self._num_completion_tokens = 0

    def add(self, prompt_index: int, output: RequestOutput) -> None:
        """Count an output of kind DELTA or FINAL_ONLY."""
        self._num_prompt_tokens[prompt_index] = len(output.prompt_token_ids)
        self._num_cached_tokens[prompt_index] = output.num_cached_tokens
        self._num_completion_tokens += sum(len(sequence.token_ids) for sequence in output.outputs)

    def usage(self) -> Usage:
        """Return the sums."""
        num_prompt_tokens = sum(self._num_prompt_tokens.values())
        reasoning = self.num_reasoning_tokens
        return Usage(
            prompt_tokens=num_prompt_tokens,
            completion_tokens=self._num_completion_tokens,
            total_tokens=num_prompt_tokens + self._num_completion_tokens,
            prompt_tokens_details=PromptTokensDetails(sum(self._num_cached_tokens.values())),
            completion_tokens_details=UNSET if reasoning is None else CompletionTokensDetails(reasoning),
        )


@dataclass
class Generation:
    """The engine requests behind one HTTP request: one for each prompt.

    Attributes:
        story: where what happens is written down; the ids of the engine requests begin with its own.
        prompt_param: the request field that holds the prompts, for errors about them.
        structure_param: the request field that says which form the answer must have.
    """

    service: ModelService
    prompts: Sequence[str | list[int]]
    sampling_params: SamplingParams
    story: RequestStory
    prompt_param: str
    priority: int = 0
    cache_salt: str = ""
    structure_param: str = "response_format"
    meter: UsageMeter = field(default_factory=UsageMeter)

    async def outputs(self) -> AsyncGenerator[tuple[int, RequestOutput], None]:
        """Yield ``(index of the prompt, output)`` as the engine gives them; closing this aborts what still runs.

        Raises:
            RequestError: a prompt is refused; ``param`` names the field.
            QueueFullError: the engine takes no more requests.
            EngineDeadError: the engine ended, or the server stopped before the answer was complete.
        """
        adapter = self.service.adapter(self.story.model)
        streams = [
            self.service.llm.generate(
                prompt,
                self.sampling_params,
                f"{self.story.id}-{index}",
                priority=self.priority,
                cache_salt=self.cache_salt,
                timing=timing,
                lora_request=adapter,
            )
            for index, (prompt, timing) in enumerate(
                zip(self.prompts, self.story.begin(len(self.prompts)), strict=True)
            )
        ]
        self.service.history.add(self.story)
        try:
            async with aclosing(merge(streams)) as merged:
                async for index, output in merged:
                    if any(sequence.finish_reason == "abort" for sequence in output.outputs):
                        raise EngineDeadError("The server is shutting down; the answer is not complete.")
                    self.meter.add(index, output)
                    yield index, output
        except RequestError as error:
            if error.param in (None, "prompt", "prompt_token_ids"):
                error.param = self.prompt_param
            elif error.param.startswith("structured_outputs"):
                error.param = self.structure_param
            raise
        finally:
            self.service.history.end(self.story)

    async def final(self) -> list[RequestOutput]:
        """Return the finished output of each prompt (with FINAL_ONLY sampling parameters); errors as in ``outputs``."""
        async with aclosing(self.outputs()) as outputs:
            finished = {index: output async for index, output in outputs}
        return [finished[index] for index in range(len(self.prompts))]


def new_id(prefix: str) -> str:
    """Make the id of an answer."""
    return f"{prefix}-{uuid.uuid4().hex}"
