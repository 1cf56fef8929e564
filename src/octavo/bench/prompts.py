"""Prompts of a wanted number of tokens, made of words that are one token each.

Which words those are is found out with the model's own tokenizer, at hand or behind the server's ``/tokenize``; so is
what the chat template adds. Without a tokenizer two requests measure the tokens per word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from octavo.bench.answers import Answer
from octavo.bench.http_client import Exchange
from octavo.bench.openai_client import Message, OpenAIClient, Prompt
from octavo.bench.words import OPENER, WORDS
from octavo.errors import ConfigError, OctavoError

WordIds = npt.NDArray[np.int32]
"""A text as indices into the words of a ``PromptMaker``."""

TokenCounter = Callable[[str | list[Message]], Awaitable[list[int] | None]]
"""Tokenizes a text or messages; None if it cannot."""

_LEAST_WORDS = 16
_CALLS_AT_ONCE = 16
_MEASURED_WORDS = (64, 320)


@dataclass(frozen=True, slots=True)
class PromptMaker:
    """Writes prompts.

    Attributes:
        words: what prompts are made of.
        token_ids: the token of each word; prompts are then token ids. None for text.
        is_chat: prompts are one message of a user.
        overhead: tokens that the chat template, or the beginning of a text, adds.
        tokens_per_word: 1.0 exactly if the lengths are exact.
        method: how lengths come about, for the reader of a result.
    """

    words: tuple[str, ...]
    is_chat: bool
    token_ids: tuple[int, ...] | None = None
    overhead: int = 0
    tokens_per_word: float = 1.0
    method: str = ""
    is_exact: bool = False

    def random_text(self, num_words: int, rng: np.random.Generator) -> WordIds:
        """Return random words."""
        return rng.integers(len(self.words), size=num_words, dtype=np.int32)

    def num_words(self, num_tokens: int) -> int:
        """Return how many words make a prompt of so many tokens, all that is added included; at least 1."""
        return max(round((num_tokens - self.overhead) / self.tokens_per_word), 1)

    def num_tokens(self, num_words: int) -> int:
        """Return how many tokens a prompt of so many words has."""
        return self.overhead + round(num_words * self.tokens_per_word)

    def write(self, text: WordIds) -> Prompt:
        """Return a prompt of these words.

        A text begins with a word that is always the same, in place of its first: how many tokens a word is at the very
        beginning differs from how many it is after a blank.
        """
        if self.token_ids is not None:
            return np.asarray(self.token_ids)[text].tolist()  # type: ignore[no-any-return]
        written = " ".join([OPENER, *(self.words[index] for index in text[1:].tolist())])
        return [{"role": "user", "content": written}] if self.is_chat else written


async def make_counter(client: OpenAIClient, model: str, tokenizer: Path | None) -> TokenCounter | None:
    """Return the model's tokenizer: that of a directory, or the server's; None if the server has none to offer.

    Raises:
        ModelError: the directory has no tokenizer, or a broken one.
    """
    if tokenizer is not None:
        return _local_counter(tokenizer)
    return (lambda prompt: client.tokenize(model, prompt)) if await client.tokenize(model, OPENER) else None


async def make_prompt_maker(
    client: OpenAIClient, model: str, count: TokenCounter | None, *, is_chat: bool, as_token_ids: bool
) -> PromptMaker:
    """Find out how to write prompts for a server.

    Args:
        as_token_ids: write token ids where there is a tokenizer.

    Raises:
        ConfigError: prompts are messages, and the tokenizer has no chat template.
        OctavoError: there is no tokenizer, and the server refused the requests that measure its tokens per word.
    """
    maker = None if count is None else await _count_words(count, is_chat=is_chat, as_token_ids=as_token_ids)
    return maker or await _measure_words(client, model, is_chat=is_chat)


def _local_counter(directory: Path) -> TokenCounter:
    from octavo.text.tokenizer import Tokenizer  # reads the tokenizer's library, which others need not wait for

    tokenizer = Tokenizer.from_directory(directory)
    template = tokenizer.chat_template

    async def count(prompt: str | list[Message]) -> list[int] | None:
        if isinstance(prompt, str):
            return tokenizer.encode(prompt)
        if template is None:
            raise ConfigError(f"the tokenizer in {directory} has no chat template: use --endpoint /v1/completions")
        return tokenizer.encode(template.render(prompt, add_generation_prompt=True), add_special_tokens=False)

    return count


async def _count_words(count: TokenCounter, *, is_chat: bool, as_token_ids: bool) -> PromptMaker | None:
    """Return a maker of exact prompts; None if there is no tokenizer, or it has a token for too few words."""

    async def num_tokens(*words: str) -> int:
        text = " ".join(words)
        token_ids = await count([{"role": "user", "content": text}] if is_chat else text)
        return len(token_ids or ())

    two, three = await num_tokens(OPENER, OPENER), await num_tokens(OPENER, OPENER, OPENER)
    if two == 0 or three != two + 1:
        return None
    limit = asyncio.Semaphore(_CALLS_AT_ONCE)

    async def is_one_token(word: str) -> bool:
        async with limit:
            return await num_tokens(OPENER, word, OPENER) == three

    are_single = await asyncio.gather(*(is_one_token(word) for word in WORDS))
    words = tuple(word for word, is_single in zip(WORDS, are_single, strict=True) if is_single)
    if len(words) < _LEAST_WORDS:
        return None
    if as_token_ids:
        text_ids = await count(" ".join([OPENER, *words])) or []
        token_ids = tuple(text_ids[len(text_ids) - len(words) :])
        return PromptMaker(words, is_chat, token_ids, method="token ids, exact", is_exact=True)
    return PromptMaker(
        words,
        is_chat,
        overhead=two - 2,
        method="text, exact by the tokenizer",
        is_exact=True,
    )


async def _measure_words(client: OpenAIClient, model: str, *, is_chat: bool) -> PromptMaker:
    """Return a maker of prompts of about the wanted length."""
    maker = PromptMaker(WORDS, is_chat)
    few, many = _MEASURED_WORDS
    less = await _ask_for_usage(client, model, maker, few)
    more = await _ask_for_usage(client, model, maker, many)
    if less is None or more is None:
        return replace(maker, method="text, one token a word assumed: the server gives no usage")
    slope = max((more - less) / (many - few), 1e-3)
    overhead = max(round(less - few * slope), 0)
    return replace(
        maker,
        overhead=overhead,
        tokens_per_word=slope,
        method=f"text, about {slope:.2f} tokens a word and {overhead} more, measured by the server's usage",
    )


async def _ask_for_usage(client: OpenAIClient, model: str, maker: PromptMaker, num_words: int) -> int | None:
    prompt = maker.write(maker.random_text(num_words, np.random.default_rng(num_words)))
    answer = Answer()
    await client.ask(client.encode(model, prompt, 1, ignore_eos=False), Exchange(), answer)
    if answer.error is not None:
        raise OctavoError(f"the server refused a first, short request: {answer.error}: {answer.error_message}")
    return answer.input_tokens
