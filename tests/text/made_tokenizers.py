"""Tokenizers of every common make, small enough to be built in a test."""

import functools
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from octavo.text import Tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Hello world, hello tokens! 12 + 30 = 42.",
    "你好，世界。今天天气很好，我们去公园散步吧。",
    "naïve café 🙂 👩‍👩‍👧 🇫🇷 done\n\n  indented\ttabs",
    "def add(a, b):\n    return a + b\n",
] * 3
SAMPLE_TEXTS = [
    "",
    "Hello world",
    " two  spaces ",
    "你好，世界。",
    "🙂👩‍👩‍👧🇫🇷",
    "a\nb\tc  d",
    "Paris é 漢字 mixed with 🙂",
]


@functools.cache
def byte_level_bpe() -> tokenizers.Tokenizer:
    """As Llama 3, Qwen and octavo-nano have: byte-level BPE, with special, plain and odd added tokens."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|end|>", "<|bos|>"]
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens([AddedToken(text, normalized=False) for text in ("<think>", "你好吗", "  ", "é", "Ġodd")])
    backend.add_special_tokens(["<|im_start|>", "<|特殊|>"])
    return backend


@functools.cache
def sentencepiece_bpe() -> tokenizers.Tokenizer:
    """As Llama 2 and Mistral have: SentencePiece's BPE with byte fallback."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    merges = [("H", "e"), ("l", "l"), ("He", "ll"), ("Hell", "o"), ("▁", "Hello"), ("▁", "▁"), ("▁", "w"), ("你", "好")]
    singles = [*"▁Helowrdabcxyz!,.", "你", "好", "🙂"]
    for token in [*singles, *("".join(pair) for pair in merges)]:
        vocab.setdefault(token, len(vocab))
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.add_tokens(["▁▁added", "工具"])
    return backend


@functools.cache
def metaspace_unigram() -> tokenizers.Tokenizer:
    """As T5 has: a Unigram model whose decoder drops the first word's space mark."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


@functools.cache
def wordpiece() -> tokenizers.Tokenizer:
    """As BERT has: continuations are marked and spaces before punctuation are cleaned up."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[SEP]"], show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def with_decoder(decoder: Any) -> tokenizers.Tokenizer:
    """Tokens full of what decoders treat specially, under any decoder; None joins tokens with spaces."""
    tokens = [
        *("<unk>", "▁a", "▁", "▁▁c", "b", "  d", "##e", ".", "n't", "x", "f</w>", "", "<0x41>", "<0xe4>", "<0x+5>"),
        *(f"<0x{byte:02X}>" for byte in "你 ▁🙂".encode()),
    ]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    backend = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    if decoder is not None:
        backend.decoder = decoder
    backend.add_special_tokens(["<|end|>"])
    return backend


def save_tokenizer(directory: Path, backend: tokenizers.Tokenizer, **files: Any) -> Path:
    """Write a model directory: ``tokenizer_config={…}`` becomes tokenizer_config.json."""
    backend.save(str(directory / "tokenizer.json"))
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


@functools.cache
def loaded(make: Any) -> Tokenizer:
    """The tokenizer that one of the functions above makes, as Octavo loads it."""
    return load_backend(make())


def load_backend(backend: tokenizers.Tokenizer) -> Tokenizer:
    """An Octavo tokenizer around a copy of ``backend``, without further files."""
    with TemporaryDirectory() as directory:
        return Tokenizer.from_directory(save_tokenizer(Path(directory), backend))
