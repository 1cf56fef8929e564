"""Octavo's tokenizer against transformers' on the same files."""

import json
import threading
from pathlib import Path

import pytest
import transformers
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import decoders

from octavo.errors import ModelError, RequestError
from octavo.text import Tokenizer

from .made_tokenizers import (
    SAMPLE_TEXTS,
    byte_level_bpe,
    loaded,
    metaspace_unigram,
    save_tokenizer,
    sentencepiece_bpe,
    with_decoder,
    wordpiece,
)

MAKES = [byte_level_bpe, sentencepiece_bpe, metaspace_unigram, wordpiece]


def from_transformers(directory: Path) -> transformers.PreTrainedTokenizerFast:
    return transformers.PreTrainedTokenizerFast.from_pretrained(directory)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>"}, "add_bos_token": True},
        {"bos_token": "<s>", "eos_token": None, "add_bos_token": False, "add_eos_token": True},
    ],
    ids=json.dumps,
)
def test_encode_and_decode_agree_with_transformers(tmp_path, make, config):
    save_tokenizer(tmp_path, make(), tokenizer_config=config if make is sentencepiece_bpe else {})
    ours, theirs = Tokenizer.from_directory(tmp_path), from_transformers(tmp_path)
    for text in SAMPLE_TEXTS:
        for special in True, False:
            token_ids = ours.encode(text, add_special_tokens=special)
            assert token_ids == theirs.encode(text, add_special_tokens=special)
            assert ours.decode(token_ids, skip_special_tokens=special) == theirs.decode(
                token_ids, skip_special_tokens=special, clean_up_tokenization_spaces=False
            )


@pytest.mark.parametrize("make", [byte_level_bpe, sentencepiece_bpe])
@given(text=st.text(max_size=20))
def test_text_survives_the_round_trip(make, text):
    tokenizer = loaded(make)
    assume(not set(text) & {"é", "▁"})  # an added token that is also a byte's name; the mark for a space
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_vocab_size_is_the_highest_id_plus_one():
    assert loaded(byte_level_bpe).vocab_size == max(byte_level_bpe().get_vocab().values()) + 1


@pytest.mark.parametrize("token_id", [-1, 10**6, 2**40])
def test_decoding_an_id_out_of_range_names_it(token_id):
    with pytest.raises(RequestError, match=f"{token_id} .*0 to"):
        loaded(byte_level_bpe).decode([1, token_id])


def test_a_lone_surrogate_is_refused_with_its_place():
    with pytest.raises(RequestError, match=r"character 2 .* U\+D83D"):
        loaded(byte_level_bpe).encode("ab\ud83d")


def test_bytes_of_tokens_join_to_the_text_and_their_texts_stand_alone():
    tokenizer = loaded(byte_level_bpe)
    token_ids = tokenizer.encode(" two 龘🙂")
    assert b"".join(map(tokenizer.token_bytes, token_ids)).decode() == " two 龘🙂"
    part = tokenizer.encode("龘")[0]
    assert (tokenizer.token_bytes(part), tokenizer.token_text(part)) == ("龘".encode()[:1], "\ufffd")
    assert tokenizer.token_text(byte_level_bpe().token_to_id("<|end|>")) == "<|end|>"


def test_bytes_of_sentencepiece_tokens_are_those_of_the_text_they_add():
    tokenizer, backend = loaded(sentencepiece_bpe), sentencepiece_bpe()
    assert tokenizer.token_text(backend.token_to_id("▁Hello")) == " Hello"
    assert tokenizer.token_bytes(backend.token_to_id("<0xE4>")) == b"\xe4"
    assert tokenizer.token_text(backend.token_to_id("<0xE4>")) == "\ufffd"
    assert tokenizer.token_text(backend.token_to_id("</s>")) == "</s>"


@pytest.mark.parametrize("make", MAKES)
def test_an_id_without_a_token_has_no_text(make):
    tokenizer = loaded(make)
    assert (tokenizer.token_text(tokenizer.vocab_size + 3), tokenizer.token_bytes(tokenizer.vocab_size + 3)) == (
        "",
        b"",
    )


def test_a_token_under_an_unusual_decoder_has_its_text(tmp_path):
    tokenizer = Tokenizer.from_directory(save_tokenizer(tmp_path, with_decoder(decoders.CTC())))
    assert tokenizer.token_text(4) == "b"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config": {"eos_token_id": 7}, "tokenizer_config": {"eos_token": "</s>"}}, [7]),
        ({"generation_config": {"eos_token_id": [7, 8]}, "config": {"eos_token_id": 9}}, [7, 8]),
        ({"generation_config": {}, "tokenizer_config": {"eos_token": "</s>"}, "config": {"eos_token_id": 9}}, [2]),
        ({"special_tokens_map": {"eos_token": {"content": "</s>", "lstrip": False}}}, [2]),
        ({"tokenizer_config": {"eos_token": "<not in the vocabulary>"}, "config": {"eos_token_id": 9}}, [9]),
        ({"config": {"eos_token_id": [9, 10]}}, [9, 10]),
        ({}, []),
    ],
    ids=str,
)
def test_where_the_eos_token_ids_come_from(tmp_path, files, expected):
    assert Tokenizer.from_directory(save_tokenizer(tmp_path, sentencepiece_bpe(), **files)).eos_token_ids == expected


def test_tokens_that_the_files_name_special_are_special(tmp_path):
    config = {"pad_token": "w", "additional_special_tokens": [{"content": "x"}], "extra_special_tokens": {"image": "y"}}
    save_tokenizer(tmp_path, sentencepiece_bpe(), tokenizer_config=config)
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert {sentencepiece_bpe().token_to_id(token) for token in "wxy"} < tokenizer.special_token_ids
    assert tokenizer.decode([sentencepiece_bpe().token_to_id("x")]) == ""


def test_a_named_token_that_the_vocabulary_lacks_gets_no_id(tmp_path):
    save_tokenizer(tmp_path, sentencepiece_bpe(), tokenizer_config={"pad_token": "[PAD]"})
    assert Tokenizer.from_directory(tmp_path).vocab_size == sentencepiece_bpe().get_vocab_size()


def test_truncation_and_padding_in_the_file_do_not_apply(tmp_path):
    backend = type(byte_level_bpe()).from_str(byte_level_bpe().to_str())
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    tokenizer = Tokenizer.from_directory(save_tokenizer(tmp_path, backend))
    assert tokenizer.encode("a b c d e f") == byte_level_bpe().encode("a b c d e f").ids


def test_several_threads_get_the_same_ids():
    tokenizer = loaded(byte_level_bpe)
    expected = [tokenizer.encode(text) for text in SAMPLE_TEXTS]
    results: list[list[list[int]]] = []

    def work() -> None:
        for _ in range(10):
            results.append([tokenizer.encode(text) for text in SAMPLE_TEXTS])  # noqa: PERF401

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 40


def test_a_missing_tokenizer_names_the_format_that_is_there(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(ModelError, match=r"only tokenizer\.model, .*save_pretrained"):
        Tokenizer.from_directory(tmp_path)


def test_a_directory_without_any_tokenizer_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no tokenizer\.json .*no tokenizer in another format"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    "name", ["tokenizer_config", "special_tokens_map", "generation_config", "config", "chat_template"]
)
def test_a_broken_json_file_is_named_with_the_place(tmp_path, name):
    save_tokenizer(tmp_path, byte_level_bpe())
    (tmp_path / f"{name}.json").write_text('{\n "a": }')
    with pytest.raises(ModelError, match=rf"{name}\.json .*line 2, column 7"):
        Tokenizer.from_directory(tmp_path)


def test_a_broken_tokenizer_json_is_named_with_the_place(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{\n "version": }')
    with pytest.raises(ModelError, match=r"tokenizer\.json .*line 2 column"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"generation_config": {"eos_token_id": "2"}}, r"generation_config\.json: eos_token_id .*'2'"),
        ({"generation_config": {"eos_token_id": [True]}}, "eos_token_id"),
        ({"config": []}, r"config\.json must contain a JSON object, not list"),
        ({"tokenizer_config": {"eos_token": 3}}, r"tokenizer_config\.json: eos_token .*3"),
        ({"tokenizer_config": {"chat_template": 3}}, "chat_template must be"),
        ({"tokenizer_config": {"chat_template": "a\n{% if %}"}}, r"tokenizer_config\.json .*line 2"),
    ],
    ids=str,
)
def test_wrong_values_in_the_files_are_named(tmp_path, files, message):
    save_tokenizer(tmp_path, byte_level_bpe(), **files)
    with pytest.raises(ModelError, match=message):
        Tokenizer.from_directory(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"tokenizer_config": {"chat_template": "config"}}, "config"),
        ({"tokenizer_config": {"chat_template": "config"}, "chat_template": {"chat_template": "json"}}, "json"),
        ({"tokenizer_config": {"chat_template": [{"name": "default", "template": "named"}]}}, "named"),
        ({"tokenizer_config": {"chat_template": [{"name": "rag", "template": "named"}]}}, None),
    ],
    ids=str,
)
def test_where_the_chat_template_comes_from(tmp_path, files, expected):
    save_tokenizer(tmp_path, byte_level_bpe(), **files)
    template = Tokenizer.from_directory(tmp_path).chat_template
    assert (template.source if template else None) == expected


def test_the_jinja_file_comes_before_the_json_files(tmp_path):
    save_tokenizer(tmp_path, byte_level_bpe(), tokenizer_config={"chat_template": "config"})
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    template = Tokenizer.from_directory(tmp_path).chat_template
    assert template is not None
    assert template.render([{"role": "user", "content": "hi"}]) == "hi"


def test_the_template_for_tools_is_used_when_tools_are_offered(tmp_path):
    templates = [
        {"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "{{ tools | length }} tools"},
    ]
    save_tokenizer(tmp_path, byte_level_bpe(), tokenizer_config={"chat_template": templates})
    template = Tokenizer.from_directory(tmp_path).chat_template
    assert template is not None
    messages = [{"role": "user", "content": "hi"}]
    assert template.render(messages) == template.render(messages, tools=[]) == "plain"
    assert template.render(messages, tools=[{"type": "function"}]) == "1 tools"
