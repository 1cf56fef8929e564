"""Token ids to text, a few tokens at a time, without ever showing half a character.

One strategy for each kind of decoder (see token_pieces); whichever it is, the deltas and the final rest join to exactly
what ``Tokenizer.decode`` makes of all the ids.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

from octavo.text.token_pieces import ByteLevelPieces, TextPieces
from octavo.text.tokenizer import Tokenizer

_NOTHING: frozenset[int] = frozenset()
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class IncrementalDetokenizer:
    """The text of one sequence of tokens, as it grows.

    Ids that the vocabulary lacks (a model's embedding may be padded beyond it) add no text.
    """

    __slots__ = ("finish", "push")

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        strategy = _create_strategy(tokenizer, skip_special_tokens)
        self.push = strategy.push
        """Take the next token ids; return the text that is now certain."""
        self.finish = strategy.finish
        """Return the rest of the text: no more tokens will come."""


class _Strategy(Protocol):
    def push(self, token_ids: Sequence[int]) -> str: ...

    def finish(self) -> str: ...


def _create_strategy(tokenizer: Tokenizer, skip_special_tokens: bool) -> _Strategy:
    skipped = tokenizer.special_token_ids if skip_special_tokens else _NOTHING
    pieces = tokenizer.pieces
    if isinstance(pieces, ByteLevelPieces):
        return _ByteLevelStrategy(pieces, skipped)
    if isinstance(pieces, TextPieces):
        return _TextStrategy(pieces, skipped)
    return _WholeTextStrategy(tokenizer, skip_special_tokens)


class _ByteLevelStrategy:
    """Byte-level BPE: tokens are bytes, and bytes become text as soon as a character is whole.

    Python's incremental decoder and the library's ``from_utf8_lossy`` both put one U+FFFD for each maximal part of a
    character that does not go on (Unicode 16, section 3.9, "U+FFFD substitution of maximal subparts").
    """

    __slots__ = ("_pieces", "_skipped", "_utf8")

    def __init__(self, pieces: ByteLevelPieces, skipped: frozenset[int]) -> None:
        self._pieces = pieces
        self._skipped = skipped
        self._utf8 = _Utf8Decoder(errors="replace")

    def push(self, token_ids: Sequence[int]) -> str:
        pieces, skipped = self._pieces, self._skipped
        return self._utf8.decode(b"".join([pieces[token_id] for token_id in token_ids if token_id not in skipped]))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _TextStrategy:
    """SentencePiece-like and WordPiece decoders: tokens are text, but for runs of byte-fallback tokens.

    Such a run is held until it ends, because one wrong byte turns all of it into U+FFFD.
    """

    __slots__ = ("_at_start", "_num_to_strip", "_pieces", "_run", "_skipped")

    def __init__(self, pieces: TextPieces, skipped: frozenset[int]) -> None:
        self._pieces = pieces
        self._skipped = skipped
        self._run: list[str] = []
        self._at_start = True
        self._num_to_strip = pieces.leading_strip.count if pieces.leading_strip else 0

    def push(self, token_ids: Sequence[int]) -> str:
        texts: list[str] = []
        for token_id in token_ids:
            piece = None if token_id in self._skipped else self._pieces[token_id]
            if piece is None:
                continue
            if piece.byte is not None:
                self._run.append(piece.token)
                continue
            if self._run:
                texts.append(self._end_run())
            texts.append(self._start_text([piece.token]) if self._at_start else piece.text)
        return "".join(texts)

    def finish(self) -> str:
        return self._end_run() if self._run else ""

    def _end_run(self) -> str:
        run, self._run = self._run, []
        return self._start_text(run) if self._at_start else self._pieces.later_text(run)

    def _start_text(self, unit: list[str]) -> str:
        strip = self._pieces.leading_strip
        if strip is None:
            self._at_start = False
            return self._pieces.first_text(unit)
        text = self._pieces.later_text(unit)
        while self._num_to_strip and text.startswith(strip.char):
            text = text[1:]
            self._num_to_strip -= 1
        self._at_start = self._num_to_strip > 0 and not text
        return text


class _WholeTextStrategy:
    """Any other decoder: nothing is certain before the last token, so the text comes whole, at the end."""

    __slots__ = ("_skip_special_tokens", "_token_ids", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._token_ids: list[int] = []

    def push(self, token_ids: Sequence[int]) -> str:
        self._token_ids.extend(token_id for token_id in token_ids if token_id < self._tokenizer.vocab_size)
        return ""

    def finish(self) -> str:
        return self._tokenizer.decode(self._token_ids, skip_special_tokens=self._skip_special_tokens)
