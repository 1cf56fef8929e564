"""Text to token ids and back, by a model's tokenizer.json and the files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import tokenizers

from octavo.errors import ModelError, RequestError
from octavo.text.chat_template import ChatTemplate
from octavo.text.text_batch import Text, TokenizedText, tokenize_texts
from octavo.text.token_pieces import TokenPieces, create_token_pieces
from octavo.text.tokenizer_files import TokenizerSettings, read_tokenizer_json, read_tokenizer_settings


class Tokenizer:
    """A model's tokenizer; every method is safe to call from several threads.

    Attributes:
        bos_token, eos_token: the special tokens that begin and end a text, if the model has them.
        eos_token_ids: ids that end a generated sequence.
        special_token_ids: ids that ``decode`` leaves out.
        chat_template: how the model wants a conversation written; None if it does not say.
        pieces: what each token adds to a text.
    """

    def __init__(self, backend: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
        _mark_special_tokens(backend, settings)
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._special_tokens = settings.special_tokens
        self.bos_token = settings.special_tokens.get("bos_token")
        self.eos_token = settings.special_tokens.get("eos_token")
        added = backend.get_added_tokens_decoder()
        self.special_token_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self.eos_token_ids = self._choose_eos_token_ids(settings)
        self.pieces: TokenPieces = create_token_pieces(backend)
        self.chat_template = self._choose_chat_template(settings)

    @classmethod
    def from_directory(cls, path: Path) -> Tokenizer:
        """Load the tokenizer of a model directory.

        Raises:
            ModelError: tokenizer.json is missing, or one of the files is broken; the message names it.
        """
        content = read_tokenizer_json(path)
        settings = read_tokenizer_settings(path)
        try:
            backend = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"{path / 'tokenizer.json'} is not a valid tokenizer: {error}") from error
        return cls(backend, settings)

    @cached_property
    def vocab_size(self) -> int:
        """The highest token id plus one, added tokens included."""
        return max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the token ids of a text.

        Args:
            add_special_tokens: put what the model wants at the ends of a text there, such as its bos token; leave this
                out for a rendered chat template, which writes it itself.

        Raises:
            RequestError: the text is not valid Unicode.
        """
        try:
            token_ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        except TypeError:
            raise _not_unicode(text) from None
        return token_ids

    def encode_texts(self, texts: Sequence[Text], *, max_tokens: int | None = None) -> list[TokenizedText]:
        """Return the tokens of texts and pairs of texts, computed in parallel.

        Args:
            max_tokens: texts with more tokens are cut to that many, special tokens included; None cuts nothing.

        Raises:
            RequestError: a text is not valid Unicode.
        """
        try:
            return tokenize_texts(self._backend, texts, max_tokens=max_tokens)
        except TypeError:
            parts = [part for text in texts for part in ((text,) if isinstance(text, str) else text)]
            raise _not_unicode(next(part for part in parts if _surrogate(part) is not None)) from None

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of token ids.

        Raises:
            RequestError: an id is not in the vocabulary's range.
        """
        vocab_size = self.vocab_size
        for token_id in token_ids:
            if not 0 <= token_id < vocab_size:
                raise RequestError(f"token id {token_id} is not in the vocabulary: ids are 0 to {vocab_size - 1}")
        text: str = self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)
        return text

    def token_id(self, token: str) -> int | None:
        """Return the id of a token by its name in the vocabulary; None if there is none of that name."""
        token_id: int | None = self._backend.token_to_id(token)
        return token_id

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that one token adds to a text; none for an id that the vocabulary lacks."""
        return self.pieces.token_bytes(token_id)

    def token_text(self, token_id: int) -> str:
        """Return ``token_bytes`` as text; parts of a character become U+FFFD."""
        return self.token_bytes(token_id).decode(errors="replace")

    def make_chat_template(self, source: str, *, tools_source: str | None = None, origin: str) -> ChatTemplate:
        """Return a chat template (the model's own or the operator's) that knows this tokenizer's special tokens.

        Raises:
            ModelError: the template's syntax is wrong; the message names ``origin`` and the line.
        """
        return ChatTemplate(
            source,
            bos_token=self.bos_token,
            eos_token=self.eos_token,
            special_tokens=self._special_tokens,
            tools_source=tools_source,
            origin=origin,
        )

    def _choose_chat_template(self, settings: TokenizerSettings) -> ChatTemplate | None:
        source = settings.chat_templates.get("default")
        if source is None:
            return None
        tools_source = settings.chat_templates.get("tool_use")
        return self.make_chat_template(source, tools_source=tools_source, origin=str(settings.chat_template_origin))

    def _choose_eos_token_ids(self, settings: TokenizerSettings) -> list[int]:
        if settings.eos_token_ids is not None:
            return settings.eos_token_ids
        own = self._backend.token_to_id(self.eos_token) if self.eos_token is not None else None
        return [own] if own is not None else (settings.config_eos_token_ids or [])


def _surrogate(text: str) -> int | None:
    """Return the place of the first lone surrogate; None if there is none."""
    return next((index for index, char in enumerate(text) if "\ud800" <= char <= "\udfff"), None)


def _not_unicode(text: str) -> RequestError:
    place = _surrogate(text) or 0
    return RequestError(
        f"the text is not valid Unicode: character {place} is the lone surrogate U+{ord(text[place]):04X}"
    )


def _mark_special_tokens(backend: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    """Make special what the model's files name so; a token that the vocabulary lacks has no embedding and stays out."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    named = [*settings.special_tokens.values(), *settings.extra_special_tokens]
    backend.add_special_tokens(
        [token for token in named if token not in known and backend.token_to_id(token) is not None]
    )
