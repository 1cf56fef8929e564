"""From the tokenizer in a GGUF file's metadata to the ``Tokenizer`` that everything else uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, processors

from octavo.errors import ModelError
from octavo.text.gguf.pre_tokenizers import pre_tokenizer_kind
from octavo.text.gguf.sentencepiece import make_sentencepiece
from octavo.text.gguf.vocabulary import GgufVocabulary, TokenKind, read_vocabulary
from octavo.text.tokenizer import Tokenizer
from octavo.text.tokenizer_files import TokenizerSettings

_ENDING_TOKENS = frozenset(
    [
        *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>"),
        *("<|return|>", "<|call|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "</s>", "<eos>", "<end_of_utterance>"),
        *("<｜end▁of▁sentence｜>", "<|EOT|>"),
    ]
)
"""Special tokens that end an answer in whichever model has them: a file names only one or two ids."""


def tokenizer_from_gguf(metadata: Mapping[str, Any], origin: Path) -> Tokenizer:
    """Make the tokenizer of a model.

    Args:
        metadata: of a GGUF file, all keys.
        origin: the file, for messages.

    Raises:
        ModelError: the file has no tokenizer, or one that is broken or not supported.
    """
    vocabulary = read_vocabulary(metadata, origin)
    if vocabulary.model not in _MAKERS:
        raise ModelError(
            f"{origin}: the tokenizer {vocabulary.model!r} (tokenizer.ggml.model) is not supported. Supported are "
            f"{', '.join(_MAKERS)}. Another tokenizer can be named with --tokenizer."
        )
    try:
        backend = _MAKERS[vocabulary.model](vocabulary)
    except ModelError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{origin}: its vocabulary and merges make no tokenizer: {error}") from error
    _add_tokens(backend, vocabulary)
    _add_ends(backend, vocabulary)
    return Tokenizer(backend, _settings(vocabulary))


def _make_byte_level(vocabulary: GgufVocabulary) -> tokenizers.Tokenizer:
    """Byte-level BPE, as GPT-2 introduced it."""
    if not vocabulary.merges:
        raise ModelError(f"{vocabulary.origin} has no tokenizer.ggml.merges, which a tokenizer of its kind needs.")
    kind = pre_tokenizer_kind(vocabulary.pre, vocabulary.origin)
    vocab = {token: token_id for token_id, token in enumerate(vocabulary.tokens)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=vocabulary.merges, ignore_merges=kind.ignore_merges))
    normalizer = kind.normalizer()
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = kind.splitter()
    backend.decoder = decoders.ByteLevel()
    return backend


_MAKERS: dict[str, Callable[[GgufVocabulary], tokenizers.Tokenizer]] = {
    "gpt2": _make_byte_level,
    "llama": make_sentencepiece,
}


def _add_tokens(backend: tokenizers.Tokenizer, vocabulary: GgufVocabulary) -> None:
    """Add the tokens that are found in a text before anything is split: control tokens are special, others are not."""
    is_special = {TokenKind.CONTROL: True, TokenKind.UNKNOWN: True, TokenKind.USER_DEFINED: False}
    for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True):
        if kind in is_special:
            special = is_special[kind] or token in _ENDING_TOKENS
            backend.add_tokens([AddedToken(token, special=special, normalized=False)])


def _add_ends(backend: tokenizers.Tokenizer, vocabulary: GgufVocabulary) -> None:
    """Put bos and eos token at the ends of a text, if the file or its kind of tokenizer wants that."""
    is_sentencepiece = vocabulary.model == "llama"
    bos_by_default = is_sentencepiece or pre_tokenizer_kind(vocabulary.pre, vocabulary.origin).add_bos
    wanted = {
        "bos_token": bos_by_default if vocabulary.add_bos is None else vocabulary.add_bos,
        "eos_token": bool(vocabulary.add_eos),
    }
    ends = {
        name: vocabulary.special_tokens[name] for name in wanted if wanted[name] and name in vocabulary.special_tokens
    }
    if ends:
        pieces = [name for name in ("bos_token", "$A", "eos_token") if name == "$A" or name in ends]
        backend.post_processor = processors.TemplateProcessing(
            single=pieces,
            special_tokens=[
                {"id": name, "ids": [vocabulary.tokens.index(token)], "tokens": [token]} for name, token in ends.items()
            ],
        )


def _settings(vocabulary: GgufVocabulary) -> TokenizerSettings:
    named_endings = [
        token_id
        for token_id, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if token in _ENDING_TOKENS and kind in (TokenKind.CONTROL, TokenKind.USER_DEFINED)
    ]
    return TokenizerSettings(
        special_tokens=vocabulary.special_tokens,
        extra_special_tokens=[],
        eos_token_ids=list(dict.fromkeys([*vocabulary.end_token_ids, *named_endings])),
        config_eos_token_ids=None,
        chat_templates=vocabulary.chat_templates,
        chat_template_origin=vocabulary.origin,
    )
