"""Log-probabilities in the two shapes that OpenAI's routes give them."""

from __future__ import annotations

from octavo.api.openai.responses import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
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


def completion_logprobs(output: CompletionOutput, first_offset: int, tokenizer: Tokenizer) -> CompletionLogprobs | None:
    """Return the log-probabilities of an output whose text begins at ``first_offset`` of the whole answer.

    Tokens are named by their text; one that is part of a character is named like ``bytes:\\xe4``, as OpenAI does.
    """
    if output.logprobs is None:
        return None
    shape = CompletionLogprobs([], [], [], [])
    offset = first_offset
    for token_id, position in zip(output.token_ids, output.logprobs, strict=True):
        sampled = position[token_id]
        shape.tokens.append(_name(token_id, sampled, tokenizer))
        shape.token_logprobs.append(sampled.logprob)
        shape.top_logprobs.append(
            {_name(known_id, entry, tokenizer): entry.logprob for known_id, entry in position.items()}
        )
        shape.text_offset.append(offset)
        offset += len(sampled.decoded_token)
    return shape


def token_text_length(output: CompletionOutput) -> int:
    """Return how far the text offsets advance over the tokens of an output; 0 without log-probabilities."""
    positions = zip(output.token_ids, output.logprobs or [], strict=False)
    return sum(len(position[token_id].decoded_token) for token_id, position in positions)


def _name(token_id: int, entry: Logprob, tokenizer: Tokenizer) -> str:
    if "\ufffd" not in entry.decoded_token:
        return entry.decoded_token
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in tokenizer.token_bytes(token_id))
