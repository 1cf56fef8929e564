"""From texts, pairs and token ids to what the engine computes: validation, tokens, limits. No torch, no sockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from octavo.engine.pooling.messages import PoolingRequest
from octavo.engine.pooling.params import PoolingParams
from octavo.errors import RequestError
from octavo.models.encoder_config import EncoderConfig
from octavo.text import Text, TokenizedText

if TYPE_CHECKING:
    from octavo.models.pooling_files import ModelKind
    from octavo.text import Tokenizer

PoolingPrompt = str | tuple[str, str] | Sequence[int] | Mapping[str, object]
"""A text, the two texts of a pair, token ids, or vLLM's ``{"prompt": text}`` / ``{"prompt_token_ids": [...]}``."""


class PoolingRequestBuilder:
    """Checks requests against one model and turns them into engine requests.

    Args:
        max_model_len: most tokens of a text, or of a pair together.
    """

    def __init__(self, tokenizer: Tokenizer, kind: ModelKind, *, max_model_len: int) -> None:
        if kind.pooling is None:
            raise ValueError("this model generates")
        config = kind.config
        self._tokenizer = tokenizer
        self._pooling = kind.pooling
        self._vocab_size = config.vocab_size
        self._hidden_size = config.hidden_size
        self._max_model_len = max_model_len
        self._has_types = isinstance(config, EncoderConfig) and config.type_vocab_size > 1
        self.is_cross_encoder = isinstance(config, EncoderConfig) and config.is_cross_encoder
        is_activated = isinstance(config, EncoderConfig) and config.score_function == "sigmoid"
        self._use_activation = is_activated if self.is_cross_encoder else kind.pooling.normalize

    def build(self, prompts: Sequence[PoolingPrompt], params: PoolingParams, request_id: str) -> list[PoolingRequest]:
        """Return one engine request a prompt; their ids are ``request_id``, ``/`` and the index of the prompt.

        Raises:
            RequestError: a prompt is empty or too long, or a token id or value is out of range.
        """
        if params.dimensions is not None and (self.is_cross_encoder or params.dimensions > self._hidden_size):
            has = "gives scores, no vectors" if self.is_cross_encoder else f"has vectors of {self._hidden_size} numbers"
            raise RequestError(f"dimensions={params.dimensions} cannot be had: the model {has}", param="dimensions")
        tokenized = self._tokenize(prompts, params.truncate_prompt_tokens)
        use_activation = self._use_activation if params.use_activation is None else params.use_activation
        requests = []
        for index, text in enumerate(tokenized):
            self._check(text, index if len(tokenized) > 1 else None)
            requests.append(
                PoolingRequest(
                    f"{request_id}/{index}",
                    text.token_ids,
                    text.type_ids if self._has_types else None,
                    params.dimensions,
                    use_activation,
                )
            )
        return requests

    def _tokenize(self, prompts: Sequence[PoolingPrompt], truncate: int | None) -> list[TokenizedText]:
        if truncate is not None and truncate > self._max_model_len:
            raise RequestError(
                f"truncate_prompt_tokens={truncate} is more than the model's greatest length of {self._max_model_len} "
                "tokens; -1 cuts to that",
                param="truncate_prompt_tokens",
            )
        limit = self._max_model_len if truncate == -1 else truncate
        given = [_text_or_token_ids(prompt) for prompt in prompts]
        texts = [item for item in given if not isinstance(item, list)]
        if self._pooling.lowercases:
            texts = [text.lower() if isinstance(text, str) else (text[0].lower(), text[1].lower()) for text in texts]
        tokenized = iter(self._tokenizer.encode_texts(texts, max_tokens=limit))
        return [TokenizedText(item[:limit]) if isinstance(item, list) else next(tokenized) for item in given]

    def _check(self, text: TokenizedText, index: int | None) -> None:
        which = "the text" if index is None else f"text {index}"
        if not text.token_ids:
            raise RequestError(f"{which} is empty: give at least one token", param="prompt")
        if len(text.token_ids) > self._max_model_len:
            raise RequestError(
                f"{which} has {len(text.token_ids)} tokens, but the model's greatest length is {self._max_model_len} "
                "tokens. Shorten it, or let it be cut with truncate_prompt_tokens=-1.",
                param="prompt",
                code="context_length_exceeded",
            )
        wrong = next((token for token in text.token_ids if not 0 <= token < self._vocab_size), None)
        if wrong is not None:
            raise RequestError(
                f"token id {wrong} is not in the model's vocabulary of {self._vocab_size} ids "
                f"(0 to {self._vocab_size - 1})",
                param="prompt",
            )


def as_prompts(prompts: PoolingPrompt | Sequence[PoolingPrompt]) -> list[PoolingPrompt]:
    """Return a list of prompts for one prompt or several; a tuple of two texts is one pair."""
    is_pair = isinstance(prompts, tuple) and len(prompts) == 2 and all(isinstance(part, str) for part in prompts)
    if isinstance(prompts, str | Mapping) or is_pair or (prompts and isinstance(prompts[0], int)):
        return [cast("PoolingPrompt", prompts)]
    return list(cast("Sequence[PoolingPrompt]", prompts))


def _text_or_token_ids(prompt: PoolingPrompt) -> Text | list[int]:
    if isinstance(prompt, Mapping):
        content = prompt.get("prompt_token_ids", prompt.get("prompt"))
        if content is None or set(prompt) - {"prompt", "prompt_token_ids"}:
            raise RequestError(
                f"a prompt mapping must have 'prompt' or 'prompt_token_ids', not {sorted(map(str, prompt))}",
                param="prompt",
            )
        prompt = cast("PoolingPrompt", content)
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, tuple) and len(prompt) == 2 and all(isinstance(part, str) for part in prompt):
        return cast("tuple[str, str]", prompt)
    if not isinstance(prompt, Sequence) or not all(type(token) is int for token in prompt) or isinstance(prompt, bytes):
        raise RequestError("a prompt must be a text, a pair of texts, or a list of token ids", param="prompt")
    return list(cast("Sequence[int]", prompt))
