"""Log-probabilities in the two shapes that OpenAI's routes give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from octavo.api.openai.responses import (
    ChatLogprobs,
    CompletionLogprobs,
    PromptLogprob,
    PromptLogprobs,
    TokenLogprob,
    TopLogprob,
)
from octavo.engine.outputs import CompletionOutput, Logprob
from octavo.text import Tokenizer


def chat_logprobs(output: CompletionOutput, num_top: int | None, tokenizer: Tokenizer) -> ChatLogprobs | None:
    """Return the log-probabilities of an output with the ``num_top`` most likely tokens of each position."""
    if num_top is None or output.logprobs is None:
        return None
    content = []
    for token_id, position in zip(output.token_ids, output.logprobs, strict=True):
        sampled = position[token_id]
        likely = sorted(position.items(), key=lambda entry: entry[1].rank)[:num_top]
        top = [
            TopLogprob(entry.decoded_token, entry.logprob, list(tokenizer.token_bytes(likely_id)))
            for likely_id, entry in likely
        ]
        own_bytes = list(tokenizer.token_bytes(token_id))
        content.append(TokenLogprob(sampled.decoded_token, sampled.logprob, own_bytes, top))
    return ChatLogprobs(content)


def completion_logprobs(
    token_ids: Sequence[int],
    positions: Sequence[Mapping[int, Logprob] | None],
    first_offset: int,
    tokenizer: Tokenizer,
) -> CompletionLogprobs:
    """Return the log-probabilities of tokens whose text begins at ``first_offset`` of the whole answer.

    Tokens are named by their text; one that is part of a character is named like ``bytes:\\xe4``, as OpenAI does.

    Args:
        positions: for each token; None for the first of a prompt.
    """
    shape = CompletionLogprobs([], [], [], [])
    offset = first_offset
    for token_id, position in zip(token_ids, positions, strict=True):
        text = tokenizer.token_text(token_id)
        shape.tokens.append(_name(token_id, text, tokenizer))
        shape.token_logprobs.append(None if position is None else position[token_id].logprob)
        shape.top_logprobs.append(
            None
            if position is None
            else {
                _name(known_id, entry.decoded_token, tokenizer): entry.logprob for known_id, entry in position.items()
            }
        )
        shape.text_offset.append(offset)
        offset += len(text)
    return shape


def prompt_logprobs(positions: Sequence[Mapping[int, Logprob] | None]) -> PromptLogprobs:
    """Return the log-probabilities of a prompt as vLLM's routes give them."""
    return [
        None
        if position is None
        else {
            str(token_id): PromptLogprob(entry.logprob, entry.rank, entry.decoded_token)
            for token_id, entry in position.items()
        }
        for position in positions
    ]


def token_text_length(token_ids: Sequence[int], tokenizer: Tokenizer) -> int:
    """Return how far the text offsets advance over some tokens."""
    return sum(len(tokenizer.token_text(token_id)) for token_id in token_ids)


def _name(token_id: int, text: str, tokenizer: Tokenizer) -> str:
    if "\ufffd" not in text:
        return text
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in tokenizer.token_bytes(token_id))
