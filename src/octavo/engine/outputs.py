"""What comes out of an engine: vLLM's ``RequestOutput`` and ``CompletionOutput``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from octavo.observe.request_timing import RequestTiming

FinishReason = Literal["stop", "length", "abort"]


@dataclass(slots=True)
class Logprob:
    """Log-probability (natural logarithm) of one token at one position.

    Attributes:
        rank: 1 for the most likely token of the position.
        decoded_token: the token's own text; a token that is part of a character decodes to U+FFFD.
    """

    logprob: float
    rank: int
    decoded_token: str


@dataclass(slots=True)
class CompletionOutput:
    """One of the ``n`` sequences of a request.

    Attributes:
        text: what was generated; with output kind DELTA only what is new.
        token_ids: ids of the generated tokens, the one that ended the output included.
        logprobs: for each token, token id to Logprob: the sampled token first, then the most likely ones by rank.
        finish_reason: ``stop`` (end-of-sequence, stop token or stop string), ``length``, ``abort``; None while running.
        stop_reason: the stop string or stop token id that ended the output; None for an end-of-sequence token.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None


@dataclass(slots=True)
class RequestOutput:
    """The state of one request.

    Attributes:
        prompt: the prompt's text; None if it was given as token ids.
        prompt_logprobs: for each token of the prompt what ``logprobs`` is for an output's; None for the first.
        num_cached_tokens: prompt tokens that the prefix cache already held.
        is_delta: whether ``outputs`` carry only what is new since the last output.
        timing: when the request was where; with the last output alone.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput] = field(default_factory=list)
    finished: bool = False
    num_cached_tokens: int = 0
    is_delta: bool = False
    timing: RequestTiming | None = None
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
