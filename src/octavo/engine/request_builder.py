"""From what a user asks to what the engine computes: validation, tokens, seeds, limits. No torch, no sockets."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from octavo.engine.lora.request import LoRARequest
from octavo.engine.messages import EngineRequest
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.structured.grammar import write_grammar
from octavo.errors import RequestError

if TYPE_CHECKING:
    from octavo.text import Tokenizer

Prompt = str | Sequence[int] | Mapping[str, object]
"""A text, token ids, or vLLM's ``{"prompt": text}`` / ``{"prompt_token_ids": [...]}``."""

MAX_PRIORITY = 2**31 - 1


@dataclass(frozen=True, slots=True)
class BuiltRequest:
    """A valid request: its prompt, and one engine request for each of its ``n`` sequences."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    params: SamplingParams
    sequences: list[EngineRequest]


class RequestBuilder:
    """Checks requests against one model and turns them into engine requests.

    Args:
        vocab_size: rows of the model's output; every token id must be below.
        seed: where the seeds of requests that name none come from.
    """

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int, max_model_len: int, seed: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._random = random.Random(seed)
        # A tokenizer may know ids that the model can never put out.
        self._eos_token_ids = [token_id for token_id in tokenizer.eos_token_ids if token_id < vocab_size]
        self._special_tokens = {tokenizer.token_text(token_id) for token_id in tokenizer.special_token_ids}

    def build(
        self,
        prompt: Prompt,
        params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        cache_salt: str = "",
        lora_request: LoRARequest | None = None,
    ) -> BuiltRequest:
        """Return the engine requests for a prompt.

        Raises:
            RequestError: the prompt is empty or too long, or a token id or value is out of range.
        """
        text, token_ids = self.tokenize(prompt)
        if params.truncate_prompt_tokens is not None:
            token_ids = self._truncate(token_ids, params.truncate_prompt_tokens)
        self._check_prompt(token_ids)
        self._check_token_ids(params.stop_token_ids, "stop_token_ids")
        self._check_token_ids(params.logit_bias or (), "logit_bias")
        self._check_token_ids(params.allowed_token_ids or (), "allowed_token_ids")
        _check_can_be_sent(params, cache_salt)
        structure = params.structured_outputs
        grammar = "" if structure is None else write_grammar(structure, self._special_tokens)
        sent_params = params if structure is None else msgspec.structs.replace(params, structured_outputs=None)
        if type(priority) is not int or abs(priority) > MAX_PRIORITY:
            raise RequestError(
                f"priority must be an integer in [-{MAX_PRIORITY}, {MAX_PRIORITY}], not {priority!r}", param="priority"
            )
        room = self._max_model_len - len(token_ids)
        max_tokens = room if params.max_tokens is None else min(params.max_tokens, room)
        seed = self._random.getrandbits(63) if params.seed is None else params.seed
        bad_word_ids = [ids for word in params.bad_words for ids in self._ids_of_bad_word(word)]
        # The prompt is the same for all, so one of them scores it.
        params_of_others = sent_params
        if params.prompt_logprobs is not None:
            params_of_others = msgspec.structs.replace(sent_params, prompt_logprobs=None)
        sequences = [
            EngineRequest(
                request_id=f"{request_id}/{index}",
                prompt_token_ids=token_ids,
                sampling_params=params_of_others if index else sent_params,
                max_tokens=max_tokens,
                eos_token_ids=self._eos_token_ids,
                seed=_seed_of_sequence(seed, index),
                priority=priority,
                cache_salt=cache_salt,
                grammar=grammar,
                bad_word_ids=bad_word_ids,
                lora_id=0 if lora_request is None else lora_request.lora_int_id,
            )
            for index in range(params.n)
        ]
        return BuiltRequest(request_id, text, token_ids, params, sequences)

    def tokenize(self, prompt: Prompt) -> tuple[str | None, list[int]]:
        """Return a prompt's text, if it was given as one, and its token ids.

        Raises:
            RequestError: it is neither a text nor a list of token ids.
        """
        if isinstance(prompt, Mapping):
            unknown = set(prompt) - {"prompt", "prompt_token_ids"}
            if unknown or not prompt:
                raise RequestError(
                    f"a prompt mapping must have 'prompt' or 'prompt_token_ids', not {sorted(map(str, prompt))}",
                    param="prompt",
                )
            text = prompt.get("prompt")
            if "prompt_token_ids" in prompt:
                return (text if isinstance(text, str) else None), _as_token_ids(prompt["prompt_token_ids"])
            prompt = text  # type: ignore[assignment]
        if isinstance(prompt, str):
            return prompt, self._tokenizer.encode(prompt)
        return None, _as_token_ids(prompt)

    def _truncate(self, token_ids: list[int], num_tokens: int) -> list[int]:
        limit = self._max_model_len - 1
        if num_tokens > limit:
            raise RequestError(
                f"truncate_prompt_tokens={num_tokens} leaves no room within the model's greatest length of "
                f"{self._max_model_len} tokens: at most {limit}, or -1 for that",
                param="truncate_prompt_tokens",
            )
        return token_ids[-(limit if num_tokens == -1 else num_tokens) :]

    def _ids_of_bad_word(self, word: str) -> list[list[int]]:
        """Tokenize a word as it stands at the beginning of a text and, if that is another token, behind a space."""
        plain = self._tokenizer.encode(word.lstrip(), add_special_tokens=False)
        behind_space = self._tokenizer.encode(" " + word.lstrip(), add_special_tokens=False)
        # Where a space is a token of its own, the second way to write the word ends with the first.
        ways = [plain] if behind_space[len(behind_space) - len(plain) :] == plain else [plain, behind_space]
        return [ids for ids in ways if ids]

    def _check_prompt(self, token_ids: list[int]) -> None:
        if not token_ids:
            raise RequestError("the prompt is empty: give at least one token", param="prompt")
        if len(token_ids) >= self._max_model_len:
            raise RequestError(
                f"the prompt has {len(token_ids)} tokens, but the model's greatest length is {self._max_model_len} "
                f"tokens, prompt and output together. Shorten the prompt to at most {self._max_model_len - 1} tokens.",
                param="prompt",
                code="context_length_exceeded",
            )
        self._check_token_ids(token_ids, "prompt")

    def _check_token_ids(self, token_ids: Sequence[int] | Mapping[int, float], param: str) -> None:
        for token_id in token_ids:
            if type(token_id) is not int or not 0 <= token_id < self._vocab_size:
                raise RequestError(
                    f"token id {token_id!r} in {param} is not in the model's vocabulary of {self._vocab_size} ids "
                    f"(0 to {self._vocab_size - 1})",
                    param=param,
                )


def _as_token_ids(prompt: object) -> list[int]:
    if not isinstance(prompt, Sequence) or not all(type(token) is int for token in prompt) or isinstance(prompt, bytes):
        raise RequestError("a prompt must be a text or a list of token ids", param="prompt")
    return list(prompt)


def _check_can_be_sent(params: SamplingParams, cache_salt: str) -> None:
    """Refuse what could not cross the line to an engine process: a wrong type, a huge number, broken Unicode.

    Sampling parameters are checked when they are made, but not for types, and their fields can be set afterwards.
    """
    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=SamplingParams)
    except (msgspec.ValidationError, TypeError, OverflowError, UnicodeEncodeError) as error:
        raise RequestError(f"the sampling parameters are not valid: {error}", param="sampling_params") from None
    try:
        cache_salt.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"cache_salt is not valid Unicode: {error}", param="cache_salt") from None


def _seed_of_sequence(seed: int, index: int) -> int:
    """Return the seed of sequence ``index`` of a request: its own for the first, unrelated ones for the others."""
    if index == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
