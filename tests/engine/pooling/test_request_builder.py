"""What a request for vectors may hold, and what it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.engine.pooling.params import PoolingParams
from octavo.engine.pooling.request_builder import PoolingRequestBuilder, as_prompts
from octavo.errors import RequestError
from octavo.models.pooling_files import read_model_kind
from octavo.text import Tokenizer
from tests.encoder_checkpoints import VOCAB_SIZE, make_encoder, save_pooling_files


def make_builder(directory: Path, max_model_len: int = 16) -> PoolingRequestBuilder:
    kind = read_model_kind(directory, "auto")
    return PoolingRequestBuilder(Tokenizer.from_directory(directory), kind, max_model_len=max_model_len)


@pytest.fixture(scope="module")
def embedding_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_encoder(tmp_path_factory.mktemp("bert"), "BertModel")
    return save_pooling_files(directory, transformer={"max_seq_length": 16, "do_lower_case": True})


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("cross"), "BertForSequenceClassification")


def test_each_prompt_becomes_a_request(embedding_model: Path) -> None:
    builder = make_builder(embedding_model)
    prompts: list[Any] = ["The Sea", [2, 5, 3], {"prompt": "a"}, {"prompt_token_ids": [9]}]
    built = builder.build(prompts, PoolingParams(dimensions=4), "r")
    sea = Tokenizer.from_directory(embedding_model).encode("the sea")
    assert [item.request_id for item in built] == ["r/0", "r/1", "r/2", "r/3"]
    assert [item.token_ids for item in built] == [sea, [2, 5, 3], [2, 5, 3], [9]]
    assert all(item.dimensions == 4 and item.use_activation and item.type_ids is None for item in built)


def test_the_second_text_of_a_pair_has_its_own_type(cross_encoder: Path) -> None:
    (built,) = make_builder(cross_encoder).build([("a b", "c")], PoolingParams(), "r")
    assert built.type_ids == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a " * 15, "has 17 tokens, but the model's greatest length is 16"),
        ([], "is empty"),
        ([VOCAB_SIZE], f"token id {VOCAB_SIZE} is not in the model's vocabulary"),
        ([-1], "token id -1"),
        ({"text": "a"}, "must have 'prompt'"),
        ([1, "a"], "must be a text"),
        (b"ab", "must be a text"),
        (7, "must be a text"),
    ],
)
def test_a_wrong_prompt_is_refused(embedding_model: Path, prompt: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        make_builder(embedding_model).build([prompt], PoolingParams(), "r")
    assert caught.value.param == "prompt"


def test_the_text_at_fault_is_named(embedding_model: Path) -> None:
    with pytest.raises(RequestError, match="text 1 has 17 tokens"):
        make_builder(embedding_model).build(["a", "a " * 15], PoolingParams(), "r")


@pytest.mark.parametrize(("limit", "length"), [(-1, 16), (5, 5), (16, 16)])
@pytest.mark.parametrize("prompt", ["a " * 40, [5] * 40])
def test_a_long_prompt_is_cut_if_that_is_asked_for(
    embedding_model: Path, prompt: str | list[int], limit: int, length: int
) -> None:
    params = PoolingParams(truncate_prompt_tokens=limit)
    (built,) = make_builder(embedding_model).build([prompt], params, "r")
    assert len(built.token_ids) == length
    if isinstance(prompt, str):
        assert (built.token_ids[0], built.token_ids[-1]) == (2, 3)


def test_wrong_parameters_are_refused(embedding_model: Path, cross_encoder: Path) -> None:
    for wrong in ({"dimensions": 0}, {"truncate_prompt_tokens": 0}, {"truncate_prompt_tokens": -2}):
        with pytest.raises(RequestError, match="at least 1"):
            PoolingParams(**wrong)
    with pytest.raises(RequestError, match="vectors of 32 numbers"):
        make_builder(embedding_model).build(["a"], PoolingParams(dimensions=33), "r")
    with pytest.raises(RequestError, match="gives scores, no vectors"):
        make_builder(cross_encoder).build(["a"], PoolingParams(dimensions=1), "r")
    with pytest.raises(RequestError, match="more than the model's greatest length of 16"):
        make_builder(embedding_model).build(["a"], PoolingParams(truncate_prompt_tokens=17), "r")


@pytest.mark.parametrize(
    ("given", "number"),
    [("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], "a"], 2), (("a", "b"), 1), ([("a", "b")], 1), ({"prompt": "a"}, 1)],
)
def test_one_prompt_counts_as_a_list_of_one(given: Any, number: int) -> None:
    assert len(as_prompts(given)) == number
