"""The keys ``tokenizer.*`` of a GGUF file as one checked record."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from octavo.errors import ModelError

_PREFIX = "tokenizer.ggml."
_SPECIAL_TOKENS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",  # the format's own spelling
    "pad_token": "padding_token_id",
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}
_END_IDS = ("eos_token_id", "eot_token_id", "eom_token_id")


class TokenKind(IntEnum):
    """What a token is for (``tokenizer.ggml.token_type``)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """What a GGUF file says about its tokenizer.

    Attributes:
        origin: the file, for messages.
        model: the algorithm: ``gpt2``, ``llama``, ….
        pre: how text is split before byte-level merges; None if the file does not say.
        tokens: by id.
        kinds: of each token.
        scores: of each token; empty if the file has none.
        merges: pairs of tokens, the first to be merged first; empty if the file has none.
        special_tokens: name (``bos_token``, …) to token.
        end_token_ids: ids of tokens that the file says end a text or a turn.
        add_bos, add_eos, add_space_prefix: None if the file does not say.
        chat_templates: name to source; the usual one is named ``default``.
    """

    origin: Path
    model: str
    pre: str | None
    tokens: list[str]
    kinds: list[TokenKind]
    scores: list[float]
    merges: list[tuple[str, str]]
    special_tokens: dict[str, str]
    end_token_ids: list[int]
    add_bos: bool | None
    add_eos: bool | None
    add_space_prefix: bool | None
    chat_templates: dict[str, str]


def read_vocabulary(metadata: Mapping[str, Any], origin: Path) -> GgufVocabulary:
    """Read and check the tokenizer's part of a file's metadata.

    Raises:
        ModelError: something is missing, or is not what it must be; the message names the file and the key.
    """
    reader = _Reader(metadata, origin)
    model = reader.text("model")
    if model is None:
        raise ModelError(f"{origin} has no tokenizer. Name the directory or file of one with --tokenizer.")
    tokens = reader.strings("tokens")
    if not tokens:
        raise reader.error("tokens", "a list with at least one token")
    kinds = reader.numbers("token_type", len(tokens)) or [TokenKind.NORMAL] * len(tokens)
    if not set(kinds) <= set(TokenKind):
        raise reader.error("token_type", f"a list of {', '.join(f'{kind.value} ({kind.name})' for kind in TokenKind)}")
    # An id beyond the vocabulary is how some converters say that there is no such token.
    ids = {key: reader.whole_number(key) for key in (*_SPECIAL_TOKENS.values(), *_END_IDS)}
    known = {key: token_id for key, token_id in ids.items() if token_id is not None and 0 <= token_id < len(tokens)}
    return GgufVocabulary(
        origin=origin,
        model=model,
        pre=reader.text("pre"),
        tokens=tokens,
        kinds=[TokenKind(kind) for kind in kinds],
        scores=reader.numbers("scores", len(tokens)),
        merges=[_pair(merge, reader) for merge in reader.strings("merges")],
        special_tokens={name: tokens[known[key]] for name, key in _SPECIAL_TOKENS.items() if key in known},
        end_token_ids=list(dict.fromkeys(known[key] for key in _END_IDS if key in known)),
        add_bos=reader.truth("add_bos_token"),
        add_eos=reader.truth("add_eos_token"),
        add_space_prefix=reader.truth("add_space_prefix"),
        chat_templates=_chat_templates(metadata, origin),
    )


class _Reader:
    """Typed access to the keys ``tokenizer.ggml.*``; a key that is missing gives None, or nothing."""

    def __init__(self, metadata: Mapping[str, Any], origin: Path) -> None:
        self._metadata = metadata
        self._origin = origin

    def error(self, name: str, expected: str) -> ModelError:
        return ModelError(f"{self._origin}: the metadata key {_PREFIX}{name} must be {expected}.")

    def text(self, name: str) -> str | None:
        value: str | None = self._value(name, str, "a string")
        return value

    def truth(self, name: str) -> bool | None:
        value: bool | None = self._value(name, bool, "true or false")
        return value

    def whole_number(self, name: str) -> int | None:
        value: int | None = self._value(name, int, "a whole number")
        return value

    def strings(self, name: str) -> list[str]:
        return self._value(name, list, "a list of strings") or []

    def numbers(self, name: str, count: int) -> list[Any]:
        values: array[Any] | None = self._value(name, array, "an array of numbers")
        if values is not None and len(values) != count:
            raise self.error(name, f"as long as the list of tokens ({count}), not {len(values)}")
        return [] if values is None else values.tolist()

    def _value(self, name: str, kind: type[Any], expected: str) -> Any:
        value = self._metadata.get(f"{_PREFIX}{name}")
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise self.error(name, expected)
        return value


def _pair(merge: str, reader: _Reader) -> tuple[str, str]:
    place = merge.find(" ", 1)
    if place < 0 or place == len(merge) - 1:
        raise reader.error("merges", f"a list of two tokens each with a space between them, not {merge[:100]!r}")
    return merge[:place], merge[place + 1 :]


def _chat_templates(metadata: Mapping[str, Any], origin: Path) -> dict[str, str]:
    names = metadata.get("tokenizer.chat_templates", [])
    if not isinstance(names, list):
        raise ModelError(f"{origin}: the metadata key tokenizer.chat_templates must be a list of names.")
    keys = {name: f"tokenizer.chat_template.{name}" for name in names} | {"default": "tokenizer.chat_template"}
    templates = {name: metadata[key] for name, key in keys.items() if key in metadata}
    wrong = [keys[name] for name, source in templates.items() if not isinstance(source, str)]
    if wrong:
        raise ModelError(f"{origin}: the metadata key {wrong[0]} must be a string.")
    return templates
