"""Sampling parameters have vLLM's names, defaults and bounds, and say which field is wrong."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from octavo import SamplingParams
from octavo.engine.sampling_params import RequestOutputKind
from octavo.errors import RequestError


def test_the_defaults_are_those_of_vllm():
    params = SamplingParams()
    assert (params.n, params.temperature, params.top_p, params.top_k, params.min_p) == (1, 1.0, 1.0, 0, 0.0)
    assert (params.presence_penalty, params.frequency_penalty, params.repetition_penalty) == (0.0, 0.0, 1.0)
    assert (params.max_tokens, params.min_tokens, params.seed, params.logprobs) == (16, 0, None, None)
    assert (params.stop, params.stop_token_ids, params.logit_bias) == ([], [], None)
    assert (params.ignore_eos, params.skip_special_tokens, params.include_stop_str_in_output) == (False, True, False)
    assert params.output_kind is RequestOutputKind.CUMULATIVE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("n", 129),
        ("presence_penalty", -2.01),
        ("presence_penalty", math.nan),
        ("frequency_penalty", 2.01),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
        ("repetition_penalty", math.nan),
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", math.nan),
        ("top_k", -2),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("seed", 2**64),
        ("seed", -(2**63) - 1),
        ("max_tokens", 0),
        ("min_tokens", -1),
        ("logprobs", -1),
        ("logprobs", 21),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_field_and_value(field: str, value: float):
    with pytest.raises(RequestError) as refused:
        SamplingParams(**{field: value})
    assert refused.value.param == field
    assert field in str(refused.value)
    assert str(value) in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 128},
        {"presence_penalty": -2, "frequency_penalty": 2},
        {"repetition_penalty": 0.01},
        {"temperature": 0},
        {"temperature": 100.0},
        {"top_p": 1.0, "min_p": 1.0},
        {"top_p": 1e-9},
        {"top_k": 2**31},
        {"seed": 2**64 - 1},
        {"seed": -(2**63)},
        {"max_tokens": None, "min_tokens": 10**6},
        {"max_tokens": 5, "min_tokens": 5},
        {"logprobs": 0},
        {"logprobs": 20},
        {"logit_bias": {0: -100, 1: 100.0}},
    ],
)
def test_values_at_the_bounds_are_accepted(fields: dict[str, Any]):
    params = SamplingParams(**fields)
    assert {name: getattr(params, name) for name in fields} == fields


def test_more_least_tokens_than_most_tokens_are_refused():
    with pytest.raises(RequestError, match="min_tokens=6 is more than max_tokens=5") as refused:
        SamplingParams(max_tokens=5, min_tokens=6)
    assert refused.value.param == "min_tokens"


@pytest.mark.parametrize("stop", ["", ["a", ""]])
def test_an_empty_stop_string_is_refused(stop: str | list[str]):
    with pytest.raises(RequestError) as refused:
        SamplingParams(stop=stop)
    assert refused.value.param == "stop"


@pytest.mark.parametrize("bias", [100.5, -101, math.nan])
def test_a_logit_bias_out_of_range_is_refused_with_its_token(bias: float):
    with pytest.raises(RequestError, match="token 17") as refused:
        SamplingParams(logit_bias={3: 1.0, 17: bias})
    assert refused.value.param == "logit_bias"


def test_one_stop_string_is_a_list_of_one():
    assert SamplingParams(stop="end").stop_strings == ["end"]
    assert SamplingParams(stop=["a", "b"]).stop_strings == ["a", "b"]
    params = SamplingParams()
    params.stop = "set later"
    assert params.stop_strings == ["set later"]


def test_top_k_of_minus_one_means_all_as_zero_does():
    assert SamplingParams(top_k=-1) == SamplingParams(top_k=0)


@pytest.mark.parametrize(("temperature", "is_greedy"), [(0, True), (1e-6, True), (1e-5, False), (1.0, False)])
def test_only_a_temperature_of_nearly_zero_is_greedy(temperature: float, is_greedy: bool):
    assert SamplingParams(temperature=temperature).is_greedy is is_greedy


@pytest.mark.parametrize("field", ["presence_penalty", "frequency_penalty", "repetition_penalty"])
def test_each_penalty_alone_counts_as_a_penalty(field: str):
    assert SamplingParams(**{field: 0.5}).has_penalties
    assert not SamplingParams().has_penalties


def test_it_crosses_the_line_between_processes_unchanged():
    params = SamplingParams(n=2, temperature=0.5, stop=["\n"], seed=2**64 - 1, logit_bias={5: -1.5}, max_tokens=None)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=SamplingParams) == params
