"""What one token adds to a text, for the kinds of decoder that tokenizer.json can name.

This is what makes incremental detokenisation O(1) per token; the rules are those of the ``tokenizers`` library, whose
own decoder is asked wherever that is possible. Knows nothing of requests or streams.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers

_BYTE_TOKEN = re.compile(r"<0x(?:[0-9A-Fa-f]{2}|\+[0-9A-Fa-f])>")
_PER_TOKEN_STEPS = frozenset({"Replace", "ByteFallback", "Metaspace", "WordPiece"})
_FIRST_TOKEN_STEPS = frozenset({"Metaspace", "WordPiece"})


def _byte_of_char() -> dict[str, int]:
    """Return GPT-2's map from printable characters to bytes: bytes that do not print stand at U+0100 and above."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    chars = {chr(byte): byte for byte in printable}
    return chars | {chr(0x100 + index): byte for index, byte in enumerate(hidden)}


_BYTE_OF_CHAR = _byte_of_char()


class ByteLevelPieces(dict[int, bytes]):
    """Token id to the bytes it stands for, under a byte-level decoder; filled on first use of each token.

    A token with a character outside GPT-2's byte map (an added token, say) stands for its own UTF-8 bytes; an id
    without a token stands for nothing.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        super().__init__()
        self._backend = backend

    def __missing__(self, token_id: int) -> bytes:
        token: str = self._backend.id_to_token(token_id) or ""
        try:
            piece = bytes([_BYTE_OF_CHAR[char] for char in token])
        except KeyError:
            piece = token.encode()
        self[token_id] = piece
        return piece

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token."""
        return self[token_id]


@dataclass(frozen=True, slots=True)
class TextPiece:
    """One token under a decoder that works token by token.

    Attributes:
        token: the token as the vocabulary spells it.
        byte: the byte that it stands for, if it is a byte-fallback token (``<0xE4>``).
        text: what it adds to a text that other tokens began; for a byte token only if it stands alone.
    """

    token: str
    byte: int | None
    text: str


@dataclass(frozen=True, slots=True)
class LeadingStrip:
    """Up to ``count`` of the character ``char`` are taken off the start of the whole text."""

    char: str
    count: int


class TextPieces(dict[int, TextPiece | None]):
    """Token id to its TextPiece (None for an id without a token); filled on first use of each token.

    A run of byte-fallback tokens is one unit, every other token is a unit of its own: a text is the first unit's text
    followed by that of each later unit, less ``leading_strip``.
    """

    def __init__(self, backend: tokenizers.Tokenizer, plan: _TextPlan) -> None:
        super().__init__()
        self._backend = backend
        self._decoder = backend.decoder
        self._plan = plan
        self.leading_strip = plan.leading_strip

    def __missing__(self, token_id: int) -> TextPiece | None:
        token: str | None = self._backend.id_to_token(token_id)
        piece = None if token is None else TextPiece(token, self._byte_of(token), self.later_text([token]))
        self[token_id] = piece
        return piece

    def first_text(self, unit: Sequence[str]) -> str:
        """Return the text of a unit that begins a text."""
        if self._decoder is None:
            return " ".join(unit)
        text: str = self._decoder.decode(list(unit))
        return text

    def later_text(self, unit: Sequence[str]) -> str:
        """Return the text of a unit that follows others."""
        return self.first_text([self._plan.anchor, *unit])[len(self._plan.anchor) :]

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token."""
        piece = self[token_id]
        if piece is None:
            return b""
        return piece.text.encode() if piece.byte is None else bytes([piece.byte])

    def _byte_of(self, token: str) -> int | None:
        if not self._plan.has_byte_fallback:
            return None
        for old, new in self._plan.replaced_before_bytes:
            token = token.replace(old, new)
        return int(token[3:5], 16) if _BYTE_TOKEN.fullmatch(token) else None


class WholeTextPieces:
    """Any other decoder: what a token adds may depend on every other token of the text."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a text that is this token alone."""
        text: str = self._backend.decode([token_id], skip_special_tokens=False)
        return text.encode()


TokenPieces = ByteLevelPieces | TextPieces | WholeTextPieces


def create_token_pieces(backend: tokenizers.Tokenizer) -> TokenPieces:
    """Choose how the tokens of this tokenizer become text."""
    steps = _decoder_steps(backend)
    if [step["type"] for step in steps if step["type"] != "Fuse"] == ["ByteLevel"]:
        return ByteLevelPieces(backend)
    plan = _plan_text(backend, steps)
    return WholeTextPieces(backend) if plan is None else TextPieces(backend, plan)


@dataclass(frozen=True, slots=True)
class _TextPlan:
    anchor: str
    has_byte_fallback: bool
    replaced_before_bytes: list[tuple[str, str]]
    leading_strip: LeadingStrip | None


def _decoder_steps(backend: tokenizers.Tokenizer) -> list[dict[str, Any]]:
    """Return the decoder as the flat list of its steps, each as in tokenizer.json."""
    if backend.decoder is None:
        return []
    return _flatten(json.loads(backend.decoder.__getstate__()))


def _flatten(decoder: dict[str, Any]) -> list[dict[str, Any]]:
    if decoder["type"] != "Sequence":
        return [decoder]
    return [step for child in decoder["decoders"] for step in _flatten(child)]


def _plan_text(backend: tokenizers.Tokenizer, steps: list[dict[str, Any]]) -> _TextPlan | None:
    """Return how to decode token by token, or None where the text of a token can depend on any other."""
    names = [step["type"] for step in steps]
    num_per_token = names.index("Fuse") if "Fuse" in names else len(names)
    per_token, on_whole_text = steps[:num_per_token], steps[num_per_token + 1 :]
    if not all(_works_on_one_token(step) for step in per_token) or names.count("ByteFallback") > 1:
        return None
    leading_strip = None
    if on_whole_text:
        if len(on_whole_text) > 1 or not _strips_start_only(on_whole_text[0]) or _FIRST_TOKEN_STEPS.intersection(names):
            return None
        leading_strip = LeadingStrip(on_whole_text[0]["content"], on_whole_text[0]["start"])
    anchor = _find_anchor(backend, leading_strip)
    if anchor is None:
        return None
    has_byte_fallback = "ByteFallback" in names
    before_bytes = per_token[: names.index("ByteFallback")] if has_byte_fallback else []
    if any(step["type"] != "Replace" for step in before_bytes):
        return None
    replaced = [(step["pattern"]["String"], step["content"]) for step in before_bytes]
    return _TextPlan(anchor, has_byte_fallback, replaced, leading_strip)


def _works_on_one_token(step: dict[str, Any]) -> bool:
    if step["type"] == "Replace":
        return "String" in step["pattern"]
    return step["type"] in _PER_TOKEN_STEPS or _strips_start_only(step)


def _strips_start_only(step: dict[str, Any]) -> bool:
    return bool(step["type"] == "Strip" and step["stop"] == 0)


def _find_anchor(backend: tokenizers.Tokenizer, leading_strip: LeadingStrip | None) -> str | None:
    """Return a token that decodes to itself and cannot be stripped: units are decoded behind it."""
    for anchor in "x", "0", "_":
        decoded = anchor if backend.decoder is None else backend.decoder.decode([anchor])
        if decoded == anchor and (leading_strip is None or leading_strip.char != anchor):
            return anchor
    return None
