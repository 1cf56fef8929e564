"""The model's tokens as llguidance wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from octavo.errors import RequestError

if TYPE_CHECKING:
    from llguidance import LLTokenizer, TokenizerWrapper

    from octavo.text import Tokenizer


class _Tokens:
    """llguidance's interface to a tokenizer: the bytes of each token, and a way to tokenize text."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_id: int) -> None:
        num_known = min(tokenizer.vocab_size, vocab_size)
        self.eos_token_id = eos_token_id
        self.bos_token_id = None
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(num_known)]
        self.tokens += [b""] * (vocab_size - num_known)  # the model has rows that stand for no token
        self.special_token_ids = sorted(i for i in tokenizer.special_token_ids if i < vocab_size)
        self._encode = tokenizer.encode

    def __call__(self, text: bytes | str) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode()
        return self._encode(text, add_special_tokens=False)


def grammar_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> LLTokenizer:
    """Return the vocabulary under which grammars are compiled; takes about a second for 150,000 tokens.

    Args:
        vocab_size: rows of the model's output.

    Raises:
        RequestError: the model has no end-of-sequence token, so no output could end where its grammar does.
    """
    from llguidance import LLTokenizer

    eos_token_ids = [token_id for token_id in tokenizer.eos_token_ids if token_id < vocab_size]
    if not eos_token_ids:
        raise RequestError(
            "this model has no end-of-sequence token, which structured outputs need", param="structured_outputs"
        )
    tokens = _Tokens(tokenizer, vocab_size, eos_token_ids[0])
    return LLTokenizer(cast("TokenizerWrapper", tokens), eos_token=eos_token_ids)
