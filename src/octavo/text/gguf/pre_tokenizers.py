"""How text is split before byte-level merges, by the names that llama.cpp gave the kinds (``tokenizer.ggml.pre``).

Each kind is a list of regular expressions: the first splits the text into what it matches and what lies between, the
next one splits each of these pieces, and so on. They are those of the models' own tokenizers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from octavo.errors import ModelError, nearest_name

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_AFTER_WORDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_LLAMA3 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_MARKS}|{_AFTER_WORDS}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_MARKS}|{_AFTER_WORDS}"
_LOWER_ENDED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPER_STARTED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_MARKS_AND_SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_GPT4O = (
    rf"{_LOWER_ENDED}{_CONTRACTIONS}?|{_UPPER_STARTED}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_MARKS_AND_SLASHES}"
    rf"|{_AFTER_WORDS}"
)
_TEKKEN = rf"{_LOWER_ENDED}|{_UPPER_STARTED}|\p{{N}}|{_MARKS_AND_SLASHES}|{_AFTER_WORDS}"
_OCTAVO = (
    r"\p{Lu}\p{Ll}*| ?[\p{Ll}\p{Lo}\p{Lm}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+(?: [^\s\p{L}\p{M}\p{N}]+)*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class PreTokenizerKind:
    """One kind of splitting, and what llama.cpp ties to it.

    Attributes:
        patterns: regular expressions, applied one after the other.
        nfc: text is normalised to Unicode's form C first.
        ignore_merges: a piece that is a token as a whole becomes that token, whatever the merges say.
        add_bos: a text begins with the bos token if the file does not say.
    """

    patterns: tuple[str, ...]
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False

    def splitter(self) -> tokenizers.pre_tokenizers.PreTokenizer:
        """Return the pre-tokenizer; its pieces are spelt in GPT-2's printable bytes."""
        splits = [pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated") for pattern in self.patterns]
        return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    def normalizer(self) -> tokenizers.normalizers.Normalizer | None:
        """Return the normalizer, if there is one."""
        return normalizers.NFC() if self.nfc else None


_LLAMA3_KIND = PreTokenizerKind((_LLAMA3,), ignore_merges=True, add_bos=True)
_QWEN2_KIND = PreTokenizerKind((_QWEN2,), nfc=True)
_DIGITS_KIND = PreTokenizerKind((_DIGIT, _GPT2))
_GPT2_KIND = PreTokenizerKind((_GPT2,))
_DEFAULT_KIND = PreTokenizerKind((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))

KINDS = {
    "default": _DEFAULT_KIND,
    "gpt-2": _GPT2_KIND,
    "olmo": _GPT2_KIND,
    "llama-bpe": _LLAMA3_KIND,
    "llama3": _LLAMA3_KIND,
    "llama-v3": _LLAMA3_KIND,
    "smaug-bpe": PreTokenizerKind((_LLAMA3,)),
    "qwen2": _QWEN2_KIND,
    "deepseek-r1-qwen": _QWEN2_KIND,
    "smollm": _DIGITS_KIND,
    "starcoder": _DIGITS_KIND,
    "refact": _DIGITS_KIND,
    "command-r": _DIGITS_KIND,
    "deepseek-coder": PreTokenizerKind((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}")),
    "gpt-4o": PreTokenizerKind((_GPT4O,)),
    "tekken": PreTokenizerKind((_TEKKEN,), ignore_merges=True, add_bos=True),
    "octavo": PreTokenizerKind((_OCTAVO,)),  # octavo-nano's own, which llama.cpp does not know
}


def pre_tokenizer_kind(name: str | None, origin: Path) -> PreTokenizerKind:
    """Return a kind by its name; a file that names none has the default kind.

    Raises:
        ModelError: there is no such kind.
    """
    if name is None:
        return _DEFAULT_KIND
    if name not in KINDS:
        nearest = nearest_name(name, KINDS)
        hint = f" The nearest is {nearest}." if nearest else ""
        raise ModelError(
            f"{origin}: the pre-tokenizer {name!r} (tokenizer.ggml.pre) is not supported. Supported are "
            f"{', '.join(KINDS)}.{hint} Another tokenizer can be named with --tokenizer."
        )
    return KINDS[name]
