"""How the tokens of one request are chosen: vLLM's ``SamplingParams``."""

from __future__ import annotations

import enum
import math

import msgspec

from octavo.engine.structured.params import StructuredOutputsParams
from octavo.engine.thinking import ThinkingBudget
from octavo.errors import RequestError

MAX_LOGPROBS = 20
MAX_NUM_SEQUENCES = 128
_GREEDY_BELOW = 1e-5
_FLAGS = (
    "ignore_eos",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "detokenize",
)


class RequestOutputKind(enum.Enum):
    """What each output of a request carries."""

    CUMULATIVE = 0
    """Everything since the request began."""
    DELTA = 1
    """What is new since the last output."""
    FINAL_ONLY = 2
    """Everything, once, when the request has finished."""


class SamplingParams(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Sampling parameters of one request.

    Attributes:
        n: number of sequences sampled from the same prompt.
        presence_penalty: subtracted once from the logit of each token that the output already has, in [-2, 2].
        frequency_penalty: subtracted once per occurrence in the output, in [-2, 2].
        repetition_penalty: logits of tokens in prompt or output are divided (if positive) or multiplied (if negative)
            by this; above 1 discourages repetition (CTRL, arXiv:1909.05858).
        temperature: logits are divided by this; 0 is greedy decoding.
        top_p: smallest set of most likely tokens whose probabilities sum to at least this, in (0, 1].
        top_k: number of most likely tokens to choose from; 0 or -1 means all.
        min_p: least probability, relative to that of the most likely token, in [0, 1].
        seed: the same seed gives the same tokens, whatever else runs in the engine.
        stop: strings that end the output; not part of the text unless ``include_stop_str_in_output``.
        stop_token_ids: token ids that end the output, in addition to the model's end-of-sequence ids.
        ignore_eos: go on after an end-of-sequence token.
        max_tokens: most tokens to generate; None means up to the model's length limit.
        min_tokens: tokens to generate before an end-of-sequence, stop token or stop string may end the output.
        logprobs: number of most likely tokens whose log-probabilities are returned beside that of the sampled token,
            in [0, 20]; None means none. They are of the model's own distribution, before penalties and temperature.
        prompt_logprobs: the same for each token of the prompt, given those before it; None means none. Such a request
            computes its whole prompt, whatever the prefix cache holds.
        logit_bias: token id to number added to its logit, in [-100, 100].
        allowed_token_ids: the only token ids that may be generated; None allows all.
        bad_words: texts whose tokens must not be generated one after the other.
        detokenize: whether there is text at all; stop strings need it.
        skip_special_tokens: leave special tokens out of the text.
        spaces_between_special_tokens: accepted as vLLM does; this tokenizer puts no spaces there by itself.
        truncate_prompt_tokens: use only this many tokens from the end of the prompt; -1 means as many as leave room for
            one more within the model's length.
        output_kind: cumulative, delta or final-only outputs.
        structured_outputs: the form that the output must have (a JSON Schema, say); None for free text.
        thinking: bound on how long the model may think; None for no bound.

    Raises:
        RequestError: a value is out of range; ``param`` names the field.
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] = []
    detokenize: bool = True
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    truncate_prompt_tokens: int | None = None
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    structured_outputs: StructuredOutputsParams | None = None
    thinking: ThinkingBudget | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            self.stop = [self.stop]
        if self.top_k == -1:
            self.top_k = 0
        self._check()

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < _GREEDY_BELOW

    @property
    def has_penalties(self) -> bool:
        """Whether earlier tokens change the logits."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0)

    @property
    def stop_strings(self) -> list[str]:
        """``stop`` as the list that it always is after construction."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def _check(self) -> None:
        self._check_types()
        _check_range("n", self.n, 1, MAX_NUM_SEQUENCES)
        _check_range("presence_penalty", self.presence_penalty, -2, 2)
        _check_range("frequency_penalty", self.frequency_penalty, -2, 2)
        _check_range("temperature", self.temperature, 0, math.inf)
        _check_range("top_k", self.top_k, 0, math.inf, note=" (or -1 for all)")
        _check_range("min_p", self.min_p, 0, 1)
        _check_range("min_tokens", self.min_tokens, 0, math.inf)
        _check_range("repetition_penalty", self.repetition_penalty, 0, math.inf, low_is_allowed=False)
        _check_range("top_p", self.top_p, 0, 1, low_is_allowed=False)
        if self.max_tokens is not None:
            _check_range("max_tokens", self.max_tokens, 1, math.inf)
            if self.min_tokens > self.max_tokens:
                raise RequestError(
                    f"min_tokens={self.min_tokens} is more than max_tokens={self.max_tokens}", param="min_tokens"
                )
        if self.seed is not None:
            _check_range("seed", self.seed, -(2**63), 2**64 - 1)
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                _check_range(name, getattr(self, name), 0, MAX_LOGPROBS)
        if self.truncate_prompt_tokens not in (None, -1):
            _check_range("truncate_prompt_tokens", self.truncate_prompt_tokens, 1, math.inf, note=" (or -1)")
        if not all(self.stop_strings):
            raise RequestError("stop must not contain an empty string", param="stop")
        if self.stop and not self.detokenize:
            raise RequestError("stop strings are found in text: detokenize must not be false with them", param="stop")
        if not all(word.strip() for word in self.bad_words):
            raise RequestError("bad_words must not contain an empty string", param="bad_words")
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise RequestError("allowed_token_ids must name at least one token", param="allowed_token_ids")
        for token_id, bias in (self.logit_bias or {}).items():
            if not (-100 <= bias <= 100):
                raise RequestError(
                    f"logit_bias of token {token_id} must be in [-100, 100], not {bias}", param="logit_bias"
                )

    def _check_types(self) -> None:
        stops, ids, bias = self.stop, self.stop_token_ids, self.logit_bias
        _check_type("stop", _is_list_of(stops, str), "a string or a list of strings", stops)
        _check_type("stop_token_ids", _is_list_of(ids, int), "a list of token ids", ids)
        is_bias = bias is None or (isinstance(bias, dict) and _is_list_of([*bias.values()], (int, float)))
        _check_type("logit_bias", is_bias, "a mapping of token ids to numbers", bias)
        structure = self.structured_outputs
        is_structure = structure is None or isinstance(structure, StructuredOutputsParams)
        _check_type("structured_outputs", is_structure, "StructuredOutputsParams", structure)
        if structure is not None and self.ignore_eos:
            raise RequestError(
                "ignore_eos does not go with structured outputs: they end where their form is complete",
                param="ignore_eos",
            )
        _check_type("bad_words", _is_list_of(self.bad_words, str), "a list of strings", self.bad_words)
        allowed = self.allowed_token_ids
        _check_type("allowed_token_ids", allowed is None or _is_list_of(allowed, int), "a list of token ids", allowed)
        for name in _FLAGS:
            value = getattr(self, name)
            _check_type(name, isinstance(value, bool), "true or false", value)


def _is_list_of(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _check_range(
    name: str, value: float, low: float, high: float, note: str = "", *, low_is_allowed: bool = True
) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{name} must be a number, not {value!r}", param=name)
    if not (low <= value <= high) or not math.isfinite(value) or (value == low and not low_is_allowed):
        lower_bound = f"at least {low}" if low_is_allowed else f"above {low}"
        upper_bound = "" if high == math.inf else f" and at most {high}"
        raise RequestError(f"{name} must be {lower_bound}{upper_bound}{note}, not {value}", param=name)


def _check_type(name: str, is_right: bool, expected: str, value: object) -> None:
    if not is_right:
        raise RequestError(f"{name} must be {expected}, not {value!r}", param=name)
