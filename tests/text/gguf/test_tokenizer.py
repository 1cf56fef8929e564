"""The tokenizer in a GGUF file gives the ids of the tokenizer that the file was made from."""

from __future__ import annotations

import functools
import io
import json
from array import array
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as QWEN2_REGEX

from octavo.errors import ModelError
from octavo.models.gguf.reader import read_gguf
from octavo.models.hub import resolve_model
from octavo.text import Tokenizer
from octavo.text.gguf import tokenizer_from_gguf
from octavo.text.gguf.pre_tokenizers import KINDS
from tests.gguf_files import GGUFWriter, add_metadata, byte_level_metadata, token_metadata, write
from tests.text.made_tokenizers import CORPUS, SAMPLE_TEXTS

ORIGIN = Path("model.gguf")
TEXTS = [
    *SAMPLE_TEXTS,
    "I'll SAY: we've 12345 things, don't we? DON'T",
    "camelCaseAndHTTPServer2Go! x=3.14159; y <= 2**10 // ~^|`",
    "line one\r\n\r\n  line two\n\n\n\tindented   \n",
    "e\u0301 composed and \u00e9 not; ﬁ ligature; Ⅷ ½ ٣",
    "<|im_start|>user\nhi<|im_end|>\n<think>",
    "'s 'T it'S he'Ll\u00a0nbsp\u3000wide path/to/file.py",
]
texts = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="ab 'sSlLtT19 \n\r\t你好é🙂!/-_<|>", max_size=60),
    st.lists(st.sampled_from([*TEXTS, "<|im_end|>", "<think>", "</s>", "▁", "工具"]), max_size=4).map("".join),
)
GPT4O_REGEX = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
BYTES_ONLY = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated"), BYTES_ONLY])


PRE_TOKENIZERS: dict[str, Any] = {
    "gpt-2": GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]),
    "llama-bpe": split(TikTokenConverter().pattern),
    "qwen2": split(QWEN2_REGEX),
    "gpt-4o": split(GPT4O_REGEX),
}


@functools.cache
def trained(pre: str) -> tokenizers.Tokenizer:
    """A tokenizer as the models of this kind have it."""
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    backend.pre_tokenizer = PRE_TOKENIZERS[pre]
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([*CORPUS, *TEXTS * 3], trainer)
    backend.add_special_tokens([AddedToken(text, normalized=False) for text in ("<|im_start|>", "<|im_end|>")])
    backend.add_tokens([AddedToken(text, normalized=False) for text in ("<think>", "工具")])
    return backend


def saved(backend: tokenizers.Tokenizer, directory: Path, **config: Any) -> Path:
    backend.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def through_a_file(metadata: dict[str, Any]) -> Tokenizer:
    """Write metadata with the gguf package, read them with ours, and make the tokenizer."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model.gguf"
        writer = GGUFWriter(path, "llama")
        add_metadata(writer, metadata)
        write(writer)
        return tokenizer_from_gguf(read_gguf(path).metadata, path)


@functools.cache
def ours(pre: str) -> Tokenizer:
    with TemporaryDirectory() as directory:
        return through_a_file(byte_level_metadata(saved(trained(pre), Path(directory)), pre))


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_ids_are_those_of_the_original(pre: str, text: str) -> None:
    expected = trained(pre).encode(text, add_special_tokens=False)
    token_ids = ours(pre).encode(text, add_special_tokens=False)
    assert token_ids == expected.ids
    assert ours(pre).decode(token_ids, skip_special_tokens=False) == trained(pre).decode(
        expected.ids, skip_special_tokens=False
    )


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
@given(text=texts)
@settings(max_examples=60)
def test_byte_level_ids_of_any_text_are_those_of_the_original(pre: str, text: str) -> None:
    assert ours(pre).encode(text, add_special_tokens=False) == trained(pre).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("pre", KINDS)
@given(text=texts)
@settings(max_examples=15)
def test_every_kind_splits_text_without_losing_any(pre: str, text: str) -> None:
    pieces = [piece for piece, _ in KINDS[pre].splitter().pre_tokenize_str(text)]
    assert decoders.ByteLevel().decode(pieces) == text


def test_model_in_the_box_keeps_its_tokenizer() -> None:
    directory = resolve_model("octavo-nano")
    original = Tokenizer.from_directory(directory)
    converted = through_a_file(byte_level_metadata(directory, "octavo"))
    for text in TEXTS:
        assert converted.encode(text) == original.encode(text)
    assert converted.eos_token == original.eos_token
    assert converted.eos_token_ids == original.eos_token_ids == [2, 0]
    assert converted.special_token_ids == original.special_token_ids
    assert converted.vocab_size == original.vocab_size
    assert converted.chat_template is not None
    assert original.chat_template is not None
    messages = [{"role": "user", "content": "hi"}]
    assert converted.chat_template.render(messages) == original.chat_template.render(messages)


USER_DEFINED = ["<think>", "工具"]


@functools.cache
def sentencepiece_model(add_dummy_prefix: bool) -> sentencepiece.SentencePieceProcessor:
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in [*CORPUS, *TEXTS] for line in text.split("\n")]),
        model_writer=content,
        model_type="bpe",
        vocab_size=560,
        byte_fallback=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=add_dummy_prefix,
        user_defined_symbols=USER_DEFINED,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=content.getvalue())


def sentencepiece_metadata(model: sentencepiece.SentencePieceProcessor, **settings: Any) -> dict[str, Any]:
    def kind(token_id: int) -> int:
        if model.id_to_piece(token_id) in USER_DEFINED:
            return 4
        return (
            2
            if model.is_unknown(token_id)
            else 3
            if model.is_control(token_id)
            else 6
            if model.is_byte(token_id)
            else 1
        )

    ids = range(model.get_piece_size())
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.id_to_piece(token_id) for token_id in ids],
        "tokenizer.ggml.scores": [model.get_score(token_id) for token_id in ids],
        "tokenizer.ggml.token_type": [kind(token_id) for token_id in ids],
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
    } | {f"tokenizer.ggml.{name}": value for name, value in settings.items()}


@functools.cache
def our_sentencepiece(add_dummy_prefix: bool) -> Tokenizer:
    model = sentencepiece_model(add_dummy_prefix)
    return through_a_file(sentencepiece_metadata(model, add_space_prefix=add_dummy_prefix))


# Text before the first added token only: behind one, llama.cpp and transformers begin anew with a space, unlike
# SentencePiece itself.
plain_texts = texts.filter(
    lambda text: not any(token in text for token in (*USER_DEFINED, "<s>", "</s>", "<unk>", "\0"))
)


@pytest.mark.parametrize("add_dummy_prefix", [True, False])
@given(text=plain_texts)
@settings(max_examples=150)
def test_sentencepiece_ids_are_those_of_sentencepiece(add_dummy_prefix: bool, text: str) -> None:
    tokenizer, oracle = our_sentencepiece(add_dummy_prefix), sentencepiece_model(add_dummy_prefix)
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    assert token_ids == oracle.encode(text)
    assert tokenizer.decode(token_ids) == oracle.decode(token_ids)


@pytest.mark.parametrize("add_dummy_prefix", [True, False])
def test_user_defined_tokens_are_found_in_a_text(add_dummy_prefix: bool) -> None:
    tokenizer, oracle = our_sentencepiece(add_dummy_prefix), sentencepiece_model(add_dummy_prefix)
    for text in ("Hello<think>", "x 工具"):
        assert tokenizer.encode(text, add_special_tokens=False) == oracle.encode(text)
    assert tokenizer.special_token_ids == {oracle.unk_id(), oracle.bos_id(), oracle.eos_id()}


@pytest.mark.parametrize(
    ("named", "begins", "ends"),
    [
        ({}, True, False),
        ({"add_bos_token": True, "add_eos_token": True}, True, True),
        ({"add_bos_token": False}, False, False),
    ],
)
def test_sentencepiece_begins_with_bos_unless_the_file_says_otherwise(
    named: dict[str, bool], begins: bool, ends: bool
) -> None:
    tokenizer = through_a_file(sentencepiece_metadata(sentencepiece_model(True), **named))
    inner = tokenizer.encode("Hello", add_special_tokens=False)
    assert tokenizer.encode("Hello") == [1] * begins + inner + [2] * ends


def small(**changes: Any) -> dict[str, Any]:
    """The smallest byte-level tokenizer, as the reader gives its metadata."""
    metadata: dict[str, Any] = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": ["a", "b", "ab", "<s>", "<|eot_id|>", "<|end|>"],
        "token_type": array("i", [1, 1, 1, 3, 3, 1]),
        "merges": ["a b"],
        "bos_token_id": 3,
        "eos_token_id": 3,
    }
    values = {f"tokenizer.ggml.{name}": value for name, value in (metadata | changes).items()}
    return {key: value for key, value in values.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [2]),
        ({"pre": "llama-bpe"}, [3, 2]),
        ({"pre": "llama-bpe", "add_bos_token": False}, [2]),
        ({"add_bos_token": True, "add_eos_token": True}, [3, 2, 3]),
        ({"add_bos_token": True, "bos_token_id": None}, [2]),
    ],
)
def test_ends_of_a_byte_level_text(changes: dict[str, Any], expected: list[int]) -> None:
    assert tokenizer_from_gguf(small(**changes), ORIGIN).encode("ab") == expected


def test_special_tokens_that_end_a_turn_in_any_model_end_it_here() -> None:
    tokenizer = tokenizer_from_gguf(small(), ORIGIN)
    assert tokenizer.eos_token_ids == [3, 4]  # the normal token <|end|> is text
    assert tokenizer_from_gguf(small(eot_token_id=5), ORIGIN).eos_token_ids == [3, 5, 4]


def test_id_beyond_the_vocabulary_names_no_token() -> None:
    tokenizer = tokenizer_from_gguf(small(bos_token_id=2**32 - 1, eos_token_id=-1), ORIGIN)
    assert (tokenizer.bos_token, tokenizer.eos_token) == (None, None)


def test_chat_templates_are_taken_by_their_names() -> None:
    metadata = small() | {
        "tokenizer.chat_template": "plain {{ bos_token }}",
        "tokenizer.chat_templates": ["tool_use", "rag"],
        "tokenizer.chat_template.tool_use": "with tools",
        "tokenizer.chat_template.rag": "with documents",
    }
    template = tokenizer_from_gguf(metadata, ORIGIN).chat_template
    assert template is not None
    messages = [{"role": "user", "content": "hi"}]
    assert template.render(messages) == "plain <s>"
    assert template.render(messages, tools=[{"type": "function", "function": {"name": "f"}}]) == "with tools"
    assert tokenizer_from_gguf(small(), ORIGIN).chat_template is None


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, r"model\.gguf has no tokenizer\. Name .* with --tokenizer"),
        (small(model="bert"), r"the tokenizer 'bert' .* Supported are gpt2, llama\."),
        (
            small(pre="llama-bpx"),
            r"the pre-tokenizer 'llama-bpx' .* Supported are default, gpt-2.* nearest is llama-bpe",
        ),
        (small(pre=3), r"tokenizer\.ggml\.pre must be a string"),
        (small(tokens=None), "tokens must be a list with at least one token"),
        (small(tokens=array("i", [1])), "tokens must be a list of strings"),
        (small(token_type=array("i", [1])), r"token_type must be as long as the list of tokens \(6\), not 1"),
        (small(token_type=array("i", [9] * 6)), r"token_type must be a list of 1 \(NORMAL\)"),
        (small(merges=None), r"has no tokenizer\.ggml\.merges"),
        (small(merges=["ab"]), "two tokens each with a space between them, not 'ab'"),
        (small(merges=["a x"]), "its vocabulary and merges make no tokenizer"),
        (small(add_bos_token=1), "add_bos_token must be true or false"),
        (small(eos_token_id="</s>"), "eos_token_id must be a whole number"),
        (small(model="llama"), r"has no tokenizer\.ggml\.scores"),
        (small(model="llama", scores=array("f", [0] * 6), tokens=["x" * 300, *"abcde"]), "token 0 is longer than 256"),
        (small() | {"tokenizer.chat_template": 3}, r"tokenizer\.chat_template must be a string"),
        (small() | {"tokenizer.chat_templates": "x"}, r"tokenizer\.chat_templates must be a list"),
        (small() | {"tokenizer.chat_template": "{% if %}"}, "not a valid Jinja template"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        tokenizer_from_gguf(metadata, ORIGIN)
    assert "model.gguf" in str(refused.value)


def test_unused_tokens_are_never_found_in_a_text() -> None:
    backend = tokenizers.Tokenizer(models.BPE(vocab={"P": 0, "A": 1, "PA": 4}, merges=[("P", "A")]))
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.merges": ["P A"],
        **token_metadata(backend),
    }
    tokenizer = through_a_file(metadata)
    assert metadata["tokenizer.ggml.tokens"] == ["P", "A", "[PAD2]", "[PAD3]", "PA"]
    assert tokenizer.encode("PA[PAD2]") == [4, 4]  # bytes without a token are left out
    assert tokenizer.vocab_size == 5
