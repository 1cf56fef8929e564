"""Texts and pairs are tokenized, typed and cut as transformers does it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from octavo.errors import RequestError
from octavo.text import Tokenizer
from tests.encoder_checkpoints import save_encoder_tokenizer

WORDS = st.text(alphabet="abc def", max_size=40)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    save_encoder_tokenizer(path, is_bert=request.param == "bert")
    return path


@settings(max_examples=60)
@given(first=WORDS, second=WORDS, max_tokens=st.integers(6, 30))
def test_pairs_and_texts_are_those_of_transformers(directory: Path, first: str, second: str, max_tokens: int) -> None:
    oracle = _oracle(directory)
    ours = _ours(directory).encode_texts([(first, second), first], max_tokens=max_tokens)
    for tokenized, arguments in zip(ours, [(first, second), (first,)], strict=True):
        expected = oracle(*([text] for text in arguments), truncation="longest_first", max_length=max_tokens)
        assert tokenized.token_ids == expected["input_ids"][0]
        types = expected.get("token_type_ids", [[0] * len(tokenized.token_ids)])[0]
        assert (tokenized.type_ids or [0] * len(tokenized.token_ids)) == types


def test_without_a_limit_nothing_is_cut(directory: Path) -> None:
    text = "a" * 1000
    (tokenized,) = _ours(directory).encode_texts([text])
    assert tokenized.token_ids == _oracle(directory)(text)["input_ids"]


def test_broken_unicode_is_refused_with_its_place(directory: Path) -> None:
    with pytest.raises(RequestError, match="character 2 is the lone surrogate U\\+D800"):
        _ours(directory).encode_texts(["fine", ("also", "ab\ud800")])


@cache
def _oracle(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(directory)


@cache
def _ours(directory: Path) -> Tokenizer:
    return Tokenizer.from_directory(directory)
