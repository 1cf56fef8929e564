"""The bodies of ``/v1/chat/completions`` and ``/v1/completions``: OpenAI's fields and vLLM's additions.

Every field that OpenAI documents is here. Those without an effect on the output are accepted; those that this version
cannot obey are accepted with their neutral value only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from octavo.api.fields import NumTokens, Only, StrictModel, TokenId, request_error
from octavo.api.openai.messages import Message, Tool
from octavo.api.openai.structured import StructureFields
from octavo.api.openai.tool_choice import ToolChoice, check_tool_choice
from octavo.engine.sampling_params import MAX_LOGPROBS, MAX_NUM_SEQUENCES

MAX_STOPS = 64
MAX_PROMPTS = 2048

_NO_BEAMS = Only(values=(False,), instead="this version samples; leave it out")
_NOT_YET = Only(instead="this version does not have it; leave it out")

_RESERVED_TEMPLATE_NAMES = {"self", "messages", "tools", "add_generation_prompt", "continue_final_message"}


class StreamOptions(StrictModel):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(None, description="Send a last chunk with the usage.")
    include_obfuscation: bool | None = Field(None, description="Accepted; nothing is padded.")
    continuous_usage_stats: Annotated[Any, Only(values=(False,), instead="use include_usage")] = None


class SamplingFields(StructureFields):
    """How tokens are chosen; what is left out comes from the model's generation_config.json."""

    temperature: float | None = Field(None, ge=0, le=1e6, description="0 is greedy decoding.")
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=2**31 - 1, description="0 or -1 means all tokens.")
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=1e6)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    n: int | None = Field(None, ge=1, le=MAX_NUM_SEQUENCES, description="Answers to the same prompt.")
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOPS)] | None = None
    ignore_eos: bool = False
    min_tokens: NumTokens = 0
    logit_bias: (
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]] | None
    ) = None
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    priority: int = Field(0, ge=-(2**31), le=2**31 - 1, description="Lower is served first under that policy.")
    cache_salt: str | None = Field(
        None, max_length=256, description="Cached prefixes are shared with equal salts only."
    )

    spaces_between_special_tokens: Annotated[Any, Only(values=(True,))] = None
    use_beam_search: Annotated[Any, _NO_BEAMS] = None
    length_penalty: Annotated[Any, Only(values=(1,), instead="it belongs to beam search; leave it out")] = None
    truncate_prompt_tokens: Annotated[Any, Only(instead="shorten the prompt before you send it")] = None
    prompt_logprobs: Annotated[Any, _NOT_YET] = None
    allowed_token_ids: Annotated[Any, Only(instead="use logit_bias")] = None
    bad_words: Annotated[Any, Only(values=([],), instead="use logit_bias")] = None

    @model_validator(mode="after")
    def _check_stream_options(self) -> SamplingFields:
        if self.stream_options is not None and not self.stream:
            raise request_error("stream_options is for streams: send stream=true with it.", param="stream_options")
        return self

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


def _refuse_reserved_names(kwargs: dict[str, Any]) -> dict[str, Any]:
    for name in sorted(_RESERVED_TEMPLATE_NAMES & kwargs.keys()):
        raise request_error(f"chat_template_kwargs must not contain {name!r}: the request itself says it.")
    return kwargs


TemplateKwargs = Annotated[dict[str, Any], AfterValidator(_refuse_reserved_names)]


class ChatCompletionRequest(SamplingFields):
    """Body of ``POST /v1/chat/completions``."""

    model: str | None = Field(None, description="A name that /v1/models lists; may be left out.")
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1, description="Older name of max_completion_tokens.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = Field(None, description="By default 'auto' if there are tools.")
    add_generation_prompt: bool = True
    continue_final_message: bool = Field(False, description="Go on with the last message; not with the above.")
    chat_template_kwargs: TemplateKwargs | None = Field(None, description="Further variables for the chat template.")

    user: str | None = Field(None, description="Accepted without effect.")
    metadata: dict[str, str] | None = Field(None, description="Accepted without effect.")
    store: bool | None = Field(None, description="Accepted; nothing is stored.")
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = Field(
        None, description="Accepted without effect."
    )
    safety_identifier: str | None = Field(None, description="Accepted without effect.")
    prompt_cache_key: str | None = Field(None, description="Accepted; prefixes are cached by content.")
    prompt_cache_options: dict[str, Any] | None = Field(None, description="Accepted; caching is automatic.")
    prompt_cache_retention: Literal["in_memory", "24h"] | None = Field(None, description="Accepted without effect.")
    parallel_tool_calls: bool | None = Field(None, description="Whether an answer may have several tool calls.")
    include_reasoning: bool = Field(True, description="Whether the answer has the model's reasoning, if it is known.")
    thinking_token_budget: NumTokens | None = Field(None, description="Most tokens of reasoning; then it is ended.")
    prediction: dict[str, Any] | None = Field(None, description="Accepted; it could only change the speed.")

    modalities: Annotated[Any, Only(values=(["text"],), instead='this version gives ["text"] only')] = None
    audio: Annotated[Any, Only(instead="this version gives text only")] = None
    functions: Annotated[Any, Only(values=([],), instead="use tools")] = None
    function_call: Annotated[Any, Only(values=("auto", "none"), instead="use tools and tool_choice")] = None
    reasoning_effort: Annotated[Any, Only(values=("none",), instead="leave it out or send 'none'")] = None
    verbosity: Annotated[Any, Only(values=("medium",), instead="leave it out or send 'medium'")] = None
    web_search_options: Annotated[Any, _NOT_YET] = None
    moderation: Annotated[Any, _NOT_YET] = None
    chat_template: Annotated[Any, Only(instead="the server's --chat-template sets it")] = None
    documents: Annotated[Any, Only(instead="put them into the messages")] = None

    @model_validator(mode="after")
    def _check_logprobs(self) -> ChatCompletionRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise request_error("top_logprobs needs logprobs=true.", param="top_logprobs")
        return self

    @model_validator(mode="after")
    def _check_tool_choice(self) -> ChatCompletionRequest:
        check_tool_choice(self.tool_choice, self.tools or [])
        return self

    @property
    def num_logprobs(self) -> int | None:
        """How many of the most likely tokens are wanted at each position; None if no log-probabilities are."""
        return (self.top_logprobs or 0) if self.logprobs else None


TokenIds = Annotated[list[TokenId], Field(min_length=1)]


class CompletionRequest(SamplingFields):
    """Body of ``POST /v1/completions``."""

    model: str | None = Field(None, description="A name that /v1/models lists; may be left out.")
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    max_tokens: int | None = Field(16, ge=1, le=2**31 - 1)
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    best_of: int | None = Field(None, ge=1, le=MAX_NUM_SEQUENCES, description="Only 1 or the value of n.")
    user: str | None = Field(None, description="Accepted without effect.")
    echo: Annotated[Any, Only(values=(False,), instead="put the prompt before the text yourself")] = None
    suffix: Annotated[Any, Only(values=("",), instead="this version continues text; it does not fill gaps")] = None

    @model_validator(mode="after")
    def _check_best_of(self) -> CompletionRequest:
        if self.best_of not in (None, 1, self.n or 1):
            raise request_error(
                f"best_of={self.best_of} is not supported unless it is 1 or equal to n: ask for n={self.best_of} and "
                "choose among the answers.",
                param="best_of",
                code="unsupported_value",
            )
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one each."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)
