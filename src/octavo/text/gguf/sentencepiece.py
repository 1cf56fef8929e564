"""SentencePiece's BPE (``tokenizer.ggml.model`` = ``llama``) as an ordinary BPE of the ``tokenizers`` library.

SentencePiece has no list of merges: of all neighbours that together are a token it joins those of the highest score.
Listing every way to split each token in two, by falling score, gives merges that do the same; transformers converts
such tokenizers in this way, too.
"""

from __future__ import annotations

import tokenizers
from tokenizers import decoders, models, normalizers

from octavo.errors import ModelError
from octavo.text.gguf.vocabulary import GgufVocabulary, TokenKind

_SPACE = "▁"
_MAX_TOKEN_CHARS = 256  # merges of a token cost the square of its length


def make_sentencepiece(vocabulary: GgufVocabulary) -> tokenizers.Tokenizer:
    """Return a tokenizer without added tokens.

    Raises:
        ModelError: the file has no scores, or a token is absurdly long.
    """
    if not vocabulary.scores:
        raise ModelError(f"{vocabulary.origin} has no tokenizer.ggml.scores, which a tokenizer of its kind needs.")
    unknown = next(
        (token for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True) if kind is TokenKind.UNKNOWN),
        vocabulary.special_tokens.get("unk_token"),
    )
    vocab = {token: token_id for token_id, token in enumerate(vocabulary.tokens)}
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=_merges(vocabulary, vocab),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=TokenKind.BYTE in vocabulary.kinds,
        )
    )
    has_prefix = vocabulary.add_space_prefix is not False
    spaces = normalizers.Replace(" ", _SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if has_prefix else spaces
    strip = [decoders.Strip(" ", 1, 0)] if has_prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return backend


def _merges(vocabulary: GgufVocabulary, vocab: dict[str, int]) -> list[tuple[str, str]]:
    """Return every pair of tokens that makes a token, the one with the highest score first."""
    joined = {
        token_id: token
        for token_id, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if kind is TokenKind.NORMAL
    }
    too_long = [token_id for token_id, token in joined.items() if len(token) > _MAX_TOKEN_CHARS]
    if too_long:
        raise ModelError(f"{vocabulary.origin}: token {too_long[0]} is longer than {_MAX_TOKEN_CHARS} characters.")
    ranked = []
    for token_id, token in joined.items():
        for place in range(1, len(token)):
            left, right = vocab.get(token[:place]), vocab.get(token[place:])
            if left is not None and right is not None:
                ranked.append((-vocabulary.scores[token_id], left, right))
    ranked.sort()
    return [(vocabulary.tokens[left], vocabulary.tokens[right]) for _, left, right in ranked]
