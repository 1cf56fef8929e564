"""What users ask becomes what the engine computes, or an error that says what is wrong; never a crash of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from octavo import SamplingParams
from octavo.engine.messages import EngineRequest
from octavo.engine.request_builder import MAX_PRIORITY, Prompt, RequestBuilder
from octavo.errors import RequestError
from octavo.text import Tokenizer

VOCAB_SIZE = 320
MAX_MODEL_LEN = 50


@pytest.fixture
def builder(tokenizer: Tokenizer) -> RequestBuilder:
    return RequestBuilder(tokenizer, vocab_size=VOCAB_SIZE, max_model_len=MAX_MODEL_LEN, seed=0)


@pytest.mark.parametrize(
    ("prompt", "text", "token_ids"),
    [
        ("hello", "hello", None),
        ({"prompt": "hello"}, "hello", None),
        ([3, 4, 5], None, [3, 4, 5]),
        ((3, 4), None, [3, 4]),
        ({"prompt_token_ids": [3, 4]}, None, [3, 4]),
        ({"prompt": [3, 4]}, None, [3, 4]),
        ({"prompt": "shown", "prompt_token_ids": [3, 4]}, "shown", [3, 4]),
    ],
)
def test_a_prompt_may_be_a_text_token_ids_or_a_mapping(
    builder: RequestBuilder, tokenizer: Tokenizer, prompt: Prompt, text: str | None, token_ids: list[int] | None
):
    built = builder.build(prompt, SamplingParams(), "r")
    assert built.prompt == text
    assert built.prompt_token_ids == (token_ids or tokenizer.encode("hello"))
    assert built.sequences[0].prompt_token_ids == built.prompt_token_ids


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        [],
        {},
        {"text": "hello"},
        {"prompt": "hello", "other": 1},
        {"prompt": None},
        {"prompt": {"prompt": "hello"}},
        {"prompt_token_ids": "hello"},
        {"prompt_token_ids": None},
        [1, 2.0],
        [True, False],
        ["a", "b"],
        [[1], [2]],
        b"hello",
        None,
        7,
    ],
)
def test_what_is_no_prompt_is_refused(builder: RequestBuilder, prompt: Any):
    with pytest.raises(RequestError) as refused:
        builder.build(prompt, SamplingParams(), "r")
    assert refused.value.param == "prompt"


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE, 2**70])
def test_token_ids_outside_the_vocabulary_are_refused_wherever_they_stand(builder: RequestBuilder, token_id: int):
    for param, prompt, params in (
        ("prompt", [1, token_id], SamplingParams()),
        ("stop_token_ids", [1], SamplingParams(stop_token_ids=[1, token_id])),
        ("logit_bias", [1], SamplingParams(logit_bias={token_id: 1.0})),
    ):
        with pytest.raises(RequestError, match=f"token id {token_id} .* 320 ids") as refused:
            builder.build(prompt, params, "r")
        assert refused.value.param == param


def test_a_prompt_that_is_too_long_is_refused_with_both_lengths(builder: RequestBuilder):
    with pytest.raises(RequestError) as refused:
        builder.build([1] * MAX_MODEL_LEN, SamplingParams(), "r")
    assert refused.value.param == "prompt"
    assert refused.value.code == "context_length_exceeded"
    assert f"{MAX_MODEL_LEN} tokens" in str(refused.value)
    assert f"at most {MAX_MODEL_LEN - 1}" in str(refused.value)
    builder.build([1] * (MAX_MODEL_LEN - 1), SamplingParams(), "the advice must work")


@pytest.mark.parametrize(("asked", "expected"), [(5, 5), (40, 40), (1000, 40), (None, 40)])
def test_the_output_ends_at_the_greatest_length(builder: RequestBuilder, asked: int | None, expected: int):
    (sequence,) = builder.build([1] * 10, SamplingParams(max_tokens=asked), "r").sequences
    assert sequence.max_tokens == expected


def test_each_of_n_sequences_has_its_own_id_and_seed_and_the_first_is_that_of_n_1(builder: RequestBuilder):
    several = builder.build([1], SamplingParams(n=5, seed=7), "r").sequences
    assert len({sequence.request_id for sequence in several}) == 5
    assert len({sequence.seed for sequence in several}) == 5
    (alone,) = builder.build([1], SamplingParams(seed=7), "r").sequences
    assert several[0].seed == alone.seed == 7
    again = builder.build([1], SamplingParams(n=5, seed=7), "r").sequences
    assert [sequence.seed for sequence in again] == [sequence.seed for sequence in several]


def test_requests_without_a_seed_have_different_ones_that_follow_from_the_engines_seed(tokenizer: Tokenizer):
    def seeds(engine_seed: int) -> list[int]:
        builder = RequestBuilder(tokenizer, vocab_size=VOCAB_SIZE, max_model_len=MAX_MODEL_LEN, seed=engine_seed)
        return [builder.build([1], SamplingParams(), "r").sequences[0].seed for _ in range(20)]

    assert len(set(seeds(0))) == 20
    assert seeds(0) == seeds(0)
    assert not set(seeds(0)) & set(seeds(1))


@pytest.mark.parametrize("seed", [-(2**63), 2**64 - 1, 0])
def test_every_seed_that_is_allowed_crosses_the_line_to_the_engine(builder: RequestBuilder, seed: int):
    for sequence in builder.build([1], SamplingParams(seed=seed, n=2), "r").sequences:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(sequence), type=EngineRequest) == sequence


def test_priority_salt_and_end_of_sequence_ids_reach_the_engine(builder: RequestBuilder, tokenizer: Tokenizer):
    (sequence,) = builder.build([1], SamplingParams(), "r", priority=-MAX_PRIORITY, cache_salt="盐").sequences
    assert (sequence.priority, sequence.cache_salt) == (-MAX_PRIORITY, "盐")
    assert sequence.eos_token_ids == tokenizer.eos_token_ids == [VOCAB_SIZE - 3]


def test_end_of_sequence_ids_that_the_model_cannot_put_out_are_left_out(checkpoint: Path):
    tokenizer = Tokenizer.from_directory(checkpoint)
    tokenizer.eos_token_ids = [5, VOCAB_SIZE - 1, VOCAB_SIZE, 10**6]
    builder = RequestBuilder(tokenizer, vocab_size=VOCAB_SIZE, max_model_len=MAX_MODEL_LEN, seed=0)
    assert builder.build([1], SamplingParams(), "r").sequences[0].eos_token_ids == [5, VOCAB_SIZE - 1]


@pytest.mark.parametrize("priority", [MAX_PRIORITY + 1, -MAX_PRIORITY - 1, 0.5, "high", None])
def test_a_priority_that_is_no_small_integer_is_refused(builder: RequestBuilder, priority: Any):
    with pytest.raises(RequestError) as refused:
        builder.build([1], SamplingParams(), "r", priority=priority)
    assert refused.value.param == "priority"


def test_a_salt_that_is_not_unicode_is_refused(builder: RequestBuilder):
    with pytest.raises(RequestError) as refused:
        builder.build([1], SamplingParams(), "r", cache_salt="\ud800")
    assert refused.value.param == "cache_salt"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", 5.5),
        ("top_k", 2**64),
        ("max_tokens", 2**64),
        ("min_tokens", 1.5),
        ("temperature", -1.0),
        ("n", 2.5),
        ("stop", ["\ud800"]),
        ("stop", [3]),
        ("logit_bias", {"5": 1.0}),
        ("skip_special_tokens", "no"),
    ],
)
def test_parameters_that_would_break_an_engine_process_are_refused_before_they_reach_it(
    builder: RequestBuilder, field: str, value: Any
):
    params = SamplingParams()
    setattr(params, field, value)
    with pytest.raises(RequestError):
        builder.build([1], params, "r")
