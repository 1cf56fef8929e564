"""From a request's fields to sampling parameters; what the request leaves out comes from the model's defaults."""

from __future__ import annotations

from typing import TypeVar

from octavo.api.fields import MAX_TOKENS_IN_A_REQUEST
from octavo.api.openai.requests import ChatCompletionRequest, CompletionRequest, SamplingFields
from octavo.api.openai.structured import structured_outputs
from octavo.engine.beam_search import BeamSearchParams
from octavo.engine.generation_config import GenerationDefaults
from octavo.engine.sampling_params import RequestOutputKind, SamplingParams

T = TypeVar("T")


def chat_sampling_params(request: ChatCompletionRequest, defaults: GenerationDefaults) -> SamplingParams:
    """Sampling parameters of a chat request; by default an answer may be as long as the model allows."""
    asked = _or(request.max_completion_tokens, request.max_tokens)
    return _sampling_params(request, defaults, _or(asked, defaults.max_new_tokens), request.num_logprobs)


def completion_sampling_params(request: CompletionRequest, defaults: GenerationDefaults) -> SamplingParams:
    """Sampling parameters of a completion request.

    What is generated may be more than what is given out: of ``best_of`` answers ``n``, and of an echoed prompt with
    ``max_tokens=0`` no token.
    """
    params = _sampling_params(request, defaults, 1 if request.max_tokens == 0 else request.max_tokens, request.logprobs)
    params.n = request.num_sequences
    if params.n > (request.n or 1) and params.logprobs is None:
        params.logprobs = 0
    if request.echo and params.prompt_logprobs is None:
        params.prompt_logprobs = request.logprobs
    return params


def beam_search_params(request: SamplingFields, max_tokens: int | None) -> BeamSearchParams:
    """Parameters of a beam search; ``max_tokens`` are by default as many as the model allows."""
    return BeamSearchParams(
        beam_width=request.n or 1,
        max_tokens=_or(max_tokens, MAX_TOKENS_IN_A_REQUEST),
        ignore_eos=request.ignore_eos,
        length_penalty=_or(request.length_penalty, 1.0),
    )


def _sampling_params(
    request: SamplingFields, defaults: GenerationDefaults, max_tokens: int | None, logprobs: int | None
) -> SamplingParams:
    """Raises RequestError for values that the models of the request let pass but that do not fit together."""
    bias = request.logit_bias
    return SamplingParams(
        n=request.n or 1,
        presence_penalty=_or(request.presence_penalty, 0.0),
        frequency_penalty=_or(request.frequency_penalty, 0.0),
        repetition_penalty=_or(request.repetition_penalty, defaults.repetition_penalty),
        temperature=_or(request.temperature, defaults.temperature),
        top_p=_or(request.top_p, defaults.top_p),
        top_k=_or(request.top_k, defaults.top_k),
        min_p=_or(request.min_p, defaults.min_p),
        seed=request.seed,
        stop=request.stop if request.stop is not None else [],
        stop_token_ids=_or(request.stop_token_ids, []),
        ignore_eos=request.ignore_eos,
        max_tokens=max_tokens,
        min_tokens=request.min_tokens,
        logprobs=logprobs,
        prompt_logprobs=request.prompt_logprobs,
        allowed_token_ids=request.allowed_token_ids,
        bad_words=_or(request.bad_words, []),
        truncate_prompt_tokens=request.truncate_prompt_tokens,
        logit_bias={int(token_id): value for token_id, value in bias.items()} if bias else None,
        include_stop_str_in_output=request.include_stop_str_in_output,
        skip_special_tokens=request.skip_special_tokens,
        spaces_between_special_tokens=request.spaces_between_special_tokens,
        output_kind=RequestOutputKind.DELTA if request.stream else RequestOutputKind.FINAL_ONLY,
        structured_outputs=structured_outputs(request),
    )


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
