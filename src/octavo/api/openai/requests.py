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

_NOT_YET = Only(instead="this version does not have it; leave it out")

# Fields that a beam search has no use for, each with the values that ask for nothing; null and an empty list always do.
_NOT_WITH_BEAMS: dict[str, tuple[object, ...]] = {
    "allowed_token_ids": (),
    "bad_words": (),
    "best_of": (),
    "echo": (False,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "min_p": (0,),
    "min_tokens": (0,),
    "presence_penalty": (0,),
    "prompt_logprobs": (),
    "repetition_penalty": (1,),
    "stop": (),
    "stop_token_ids": (),
    "stream": (False,),
    "tools": (),
    "top_logprobs": (),
    "truncate_prompt_tokens": (),
}
_RESERVED_TEMPLATE_NAMES = {"self", "messages", "tools", "add_generation_prompt", "continue_final_message"}


class StreamOptions(StrictModel):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(None, description="Send a last chunk with the usage.")
    include_obfuscation: bool | None = Field(None, description="Accepted; nothing is padded.")
    continuous_usage_stats: bool | None = Field(None, description="Send the usage so far with every chunk.")


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

    allowed_token_ids: Annotated[list[TokenId], Field(min_length=1)] | None = Field(
        None, description="The only tokens that may be generated."
    )
    bad_words: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=256)] | None = (
        Field(None, description="Texts that must not be generated.")
    )
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS, description="Not for streams.")
    truncate_prompt_tokens: int | None = Field(
        None, ge=-1, description="Use only so many tokens from the prompt's end; -1 for as many as fit."
    )
    spaces_between_special_tokens: bool = Field(True, description="Accepted without effect.")
    return_token_ids: bool | None = Field(None, description="Give the token ids of prompt and answer too.")
    use_beam_search: bool = Field(False, description="Give the n best sequences that a beam search of width n finds.")
    length_penalty: float | None = Field(None, ge=-10, le=10, description="Of beam search: above 0 prefers long ones.")

    @model_validator(mode="after")
    def _check_stream_options(self) -> SamplingFields:
        if self.stream_options is not None and not self.stream:
            raise request_error("stream_options is for streams: send stream=true with it.", param="stream_options")
        return self

    @model_validator(mode="after")
    def _check_combinations(self) -> SamplingFields:
        if self.stream and self.prompt_logprobs is not None:
            raise request_error("prompt_logprobs are not sent in streams: leave out stream.", param="prompt_logprobs")
        if self.use_beam_search:
            for name in sorted(_NOT_WITH_BEAMS.keys() & self.model_fields_set):
                value = getattr(self, name)
                is_neutral = any(
                    value == known and (value is False) == (known is False) for known in _NOT_WITH_BEAMS[name]
                )
                if value not in (None, []) and not is_neutral:
                    raise request_error(f"{name} does not go together with use_beam_search.", param=name)
        elif self.length_penalty not in (None, 1):
            raise request_error("length_penalty is for beam search: send use_beam_search=true.", param="length_penalty")
        return self

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def includes_running_usage(self) -> bool:
        """Whether every chunk of a stream has the usage so far."""
        return self.includes_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)


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
    max_tokens: int | None = Field(16, ge=0, le=2**31 - 1, description="0 only with echo: the prompt alone.")
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    best_of: int | None = Field(
        None, ge=1, le=MAX_NUM_SEQUENCES, description="Generate so many, and give the n most likely per token."
    )
    echo: bool = Field(False, description="Put the prompt before the text.")
    user: str | None = Field(None, description="Accepted without effect.")
    suffix: Annotated[Any, Only(values=("",), instead="this version continues text; it does not fill gaps")] = None

    @model_validator(mode="after")
    def _check_completion(self) -> CompletionRequest:
        n = self.n or 1
        if self.best_of is not None and self.best_of < n:
            raise request_error(f"best_of={self.best_of} is less than n={n}.", param="best_of")
        if self.num_sequences > n and self.stream:
            raise request_error(
                "The best of several answers are known only at the end: leave out stream.", param="best_of"
            )
        if self.max_tokens == 0 and not self.echo:
            raise request_error(
                "max_tokens=0 gives nothing: send echo=true with it, or ask for tokens.", param="max_tokens"
            )
        return self

    @property
    def num_sequences(self) -> int:
        """How many answers to generate to each prompt."""
        return self.best_of or self.n or 1

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one each."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)
