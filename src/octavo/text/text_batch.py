"""Many texts at a time, for models that read whole texts: pairs, and texts that are cut so that they fit.

Cut texts keep the special tokens at their ends. They are cut at the end, the longer one of a pair first, as
transformers does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

Text = str | tuple[str, str]
"""A text, or the two texts of a pair."""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Token ids of a text or a pair, and the type of each token: 1 in the second text of a pair where there are types.

    Attributes:
        type_ids: None if all are 0.
    """

    token_ids: list[int]
    type_ids: list[int] | None = None


def tokenize_texts(
    backend: tokenizers.Tokenizer, texts: Sequence[Text], *, max_tokens: int | None = None
) -> list[TokenizedText]:
    """Tokenize texts with the special tokens that the model wants.

    Args:
        backend: without truncation and padding.
        max_tokens: texts with more tokens are cut to that many, special tokens included; None cuts nothing.

    Raises:
        TypeError: a text is not valid Unicode.
    """
    encodings = backend.encode_batch(list(texts))
    if max_tokens is not None:
        encodings = [
            encoding if len(encoding) <= max_tokens else _cut(backend, text, max_tokens)
            for text, encoding in zip(texts, encodings, strict=True)
        ]
    return [
        TokenizedText(encoding.ids, encoding.type_ids if isinstance(text, tuple) and any(encoding.type_ids) else None)
        for text, encoding in zip(texts, encodings, strict=True)
    ]


def _cut(backend: tokenizers.Tokenizer, text: Text, max_tokens: int) -> tokenizers.Encoding:
    first, second = text if isinstance(text, tuple) else (text, None)
    room = max(max_tokens - backend.num_special_tokens_to_add(second is not None), 0)
    encoded = backend.encode(first, add_special_tokens=False)
    if second is None:
        encoded.truncate(room)
        return backend.post_process(encoded)
    pair = backend.encode(second, add_special_tokens=False)
    shorter = min(len(encoded), len(pair), room // 2)
    keeps_first = len(encoded) <= len(pair)
    encoded.truncate(shorter if keeps_first else room - shorter)
    pair.truncate(room - shorter if keeps_first else shorter)
    return backend.post_process(encoded, pair)
