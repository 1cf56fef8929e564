"""The byte-level BPE tokenizer, trained on generated conversations."""

from collections.abc import Iterator
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.train_nano.conversations import mixture_at, training_conversation
from tools.train_nano.template import render

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = [END_OF_TEXT, TURN_START, TURN_END]
"""Special tokens, never shown."""
VISIBLE = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
"""Tokens of their own that stay in the decoded text."""

PATTERN = (
    r"\p{Lu}\p{Ll}*"  # a capital opens a word and never takes the space before it: "Paris" is the same in text and JSON
    r"| ?[\p{Ll}\p{Lo}\p{Lm}\p{M}]+"
    r"|\p{N}"  # every digit by itself
    r"| ?[^\s\p{L}\p{M}\p{N}]+(?: [^\s\p{L}\p{M}\p{N}]+)*"  # so that `": {"` can be one token
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How text is cut before merging."""


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of `token`. Raises `ValueError` when the tokenizer does not know it."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the tokenizer lacks {token}")
    return int(found)


def corpus(seed: int, conversations: int) -> Iterator[str]:
    """Rendered conversations to learn merges from."""
    rng = Random(f"tokenizer {seed}")
    for _ in range(conversations):
        drawn = training_conversation(rng, mixture_at(0.0))
        yield render(drawn.messages, drawn.tools)


def train_tokenizer(seed: int, vocab_size: int = 2048, conversations: int = 12000) -> Tokenizer:
    """Learn a tokenizer of exactly `vocab_size` entries, the special ones included and first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in VISIBLE])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*CONTROL, *VISIBLE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(seed, conversations), trainer)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in VISIBLE])
    return tokenizer
