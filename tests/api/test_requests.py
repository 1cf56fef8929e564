from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from octavo.api.json_body import parse_body
from octavo.api.openai.messages import template_messages
from octavo.api.openai.requests import ChatCompletionRequest, CompletionRequest
from octavo.api.openai.sampling import chat_sampling_params, completion_sampling_params
from octavo.engine.generation_config import GenerationDefaults
from octavo.engine.sampling_params import RequestOutputKind
from octavo.errors import ModelError, RequestError

USER = {"role": "user", "content": "hi"}
DEFAULTS = GenerationDefaults()


def chat(*messages: dict[str, Any], **fields: Any) -> ChatCompletionRequest:
    return parse_body(json.dumps({"messages": messages or (USER,), **fields}).encode(), ChatCompletionRequest)


def completion(**fields: Any) -> CompletionRequest:
    return parse_body(json.dumps({"prompt": "x", **fields}).encode(), CompletionRequest)


@pytest.mark.parametrize(
    ("model", "documented"),
    [
        (ChatCompletionRequest, chat_create_params.CompletionCreateParamsStreaming),
        (CompletionRequest, completion_create_params.CompletionCreateParamsStreaming),
    ],
)
def test_every_field_that_openai_documents_is_known(model: Any, documented: Any) -> None:
    assert set(documented.__annotations__) - set(model.model_fields) == set()


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "s"},
        {"prompt_cache_key": "k", "prompt_cache_options": {"ttl": "30m"}, "prompt_cache_retention": "24h"},
        {"parallel_tool_calls": False, "prediction": {"type": "content", "content": "x"}},
        {"response_format": {"type": "text"}, "modalities": ["text"], "reasoning_effort": "none"},
        {"verbosity": "medium", "functions": [], "function_call": "none", "tool_choice": "auto"},
        {"audio": None, "web_search_options": None, "moderation": None, "logit_bias": None, "stop": None, "n": None},
        {"use_beam_search": False, "length_penalty": 1.0, "spaces_between_special_tokens": True},
    ],
)
def test_fields_without_effect_and_neutral_values_are_accepted(fields: dict[str, Any]) -> None:
    chat(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_decoding_backend": "outlines"},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"web_search_options": {}},
        {"functions": [{"name": "f"}]},
        {"function_call": {"name": "f"}},
        {"tool_choice": "sometimes"},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
        {"reasoning_effort": "high"},
        {"verbosity": "low"},
        {"moderation": {"model": "m"}},
    ],
)
def test_what_would_change_the_output_but_does_not_exist_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="is not supported: ") as caught:
        chat(**fields)
    assert caught.value.param == next(iter(fields))
    assert caught.value.code == "unsupported_value"


def test_a_suffix_is_refused() -> None:
    with pytest.raises(RequestError, match="is not supported"):
        completion(suffix="x")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 3, "n": 2, "stream": True}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"length_penalty": 2.0}, "length_penalty"),
        ({"use_beam_search": True, "stream": True}, "stream"),
        ({"use_beam_search": True, "logprobs": 0}, "logprobs"),
        ({"use_beam_search": True, "stop": "x"}, "stop"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"bad_words": [""]}, "bad_words[0]"),
    ],
)
def test_fields_that_do_not_fit_together_or_are_out_of_range_are_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        completion(**fields)
    assert caught.value.param == param


def test_neutral_values_go_together_with_beam_search() -> None:
    completion(use_beam_search=True, n=3, stop=None, stream=False, min_tokens=0, best_of=None, echo=False, min_p=0)


def test_more_answers_are_generated_than_given_where_the_best_are_wanted() -> None:
    params = completion_sampling_params(completion(best_of=5, n=2), DEFAULTS)
    assert (params.n, params.logprobs) == (5, 0)
    params = completion_sampling_params(completion(n=2), DEFAULTS)
    assert (params.n, params.logprobs) == (2, None)


def test_an_echo_with_logprobs_scores_the_prompt() -> None:
    params = completion_sampling_params(completion(echo=True, logprobs=2, max_tokens=0), DEFAULTS)
    assert (params.prompt_logprobs, params.max_tokens) == (2, 1)
    assert completion_sampling_params(completion(echo=True), DEFAULTS).prompt_logprobs is None


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_the_four_forms_of_a_prompt(prompt: object, prompts: list[object]) -> None:
    assert completion(prompt=prompt).prompts == prompts


def test_sampling_fields_reach_the_engine() -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": -1,
        "min_p": 0.1,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "repetition_penalty": 1.1,
        "seed": -7,
        "n": 2,
        "stop_token_ids": [5],
        "ignore_eos": True,
        "min_tokens": 1,
        "skip_special_tokens": False,
        "include_stop_str_in_output": True,
        "allowed_token_ids": [7, 8],
        "bad_words": ["no"],
        "prompt_logprobs": 2,
        "truncate_prompt_tokens": -1,
        "spaces_between_special_tokens": False,
    }
    params = completion_sampling_params(completion(**fields, stop="x", logprobs=3, logit_bias={"7": -5}), DEFAULTS)
    expected = fields | {"top_k": 0, "stop": ["x"], "logprobs": 3, "logit_bias": {7: -5}, "max_tokens": 16}
    assert {name: getattr(params, name) for name in expected} == expected
    assert params.output_kind is RequestOutputKind.FINAL_ONLY
    assert completion_sampling_params(completion(stream=True), DEFAULTS).output_kind is RequestOutputKind.DELTA


def test_a_chat_answer_may_be_as_long_as_the_model_unless_something_bounds_it() -> None:
    assert chat_sampling_params(chat(), DEFAULTS).max_tokens is None
    assert chat_sampling_params(chat(), GenerationDefaults(max_new_tokens=9)).max_tokens == 9
    assert chat_sampling_params(chat(max_tokens=5), GenerationDefaults(max_new_tokens=9)).max_tokens == 5
    assert chat_sampling_params(chat(max_tokens=5, max_completion_tokens=4), DEFAULTS).max_tokens == 4


def test_chat_logprobs_need_their_switch() -> None:
    assert chat().num_logprobs is None
    assert chat(logprobs=True).num_logprobs == 0
    assert chat(logprobs=True, top_logprobs=4).num_logprobs == 4
    with pytest.raises(RequestError, match="logprobs=true"):
        chat(top_logprobs=4)


def test_values_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(RequestError) as caught:
        completion_sampling_params(completion(min_tokens=20), DEFAULTS)
    assert caught.value.param == "min_tokens"


def test_defaults_come_from_generation_config(tmp_path: Any) -> None:
    assert GenerationDefaults.from_directory(tmp_path) == GenerationDefaults()
    (tmp_path / "generation_config.json").write_text(
        '{"temperature": 0.6, "top_k": 20, "top_p": null, "do_sample": true, "eos_token_id": [1, 2]}'
    )
    defaults = GenerationDefaults.from_directory(tmp_path)
    assert defaults == GenerationDefaults(temperature=0.6, top_k=20)
    assert chat_sampling_params(chat(), defaults).temperature == 0.6
    assert chat_sampling_params(chat(temperature=0), defaults).temperature == 0
    assert chat_sampling_params(chat(top_k=0), defaults).top_k == 0


def test_a_model_that_says_not_to_sample_is_greedy_unless_asked_otherwise(tmp_path: Any) -> None:
    (tmp_path / "generation_config.json").write_text('{"do_sample": false}')
    defaults = GenerationDefaults.from_directory(tmp_path)
    assert chat_sampling_params(chat(), defaults).is_greedy
    assert chat_sampling_params(chat(temperature=0.5), defaults).temperature == 0.5
    assert defaults.sampling_params().is_greedy


@pytest.mark.parametrize("content", ["[]", "{", '{"top_p": 2}', '{"temperature": "hot"}', '{"max_new_tokens": 0}'])
def test_a_broken_generation_config_is_named(tmp_path: Any, content: str) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"generation_config\.json"):
        GenerationDefaults.from_directory(tmp_path)


def test_messages_become_what_templates_read() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    request = chat(
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call], "audio": None, "annotations": []},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "refusal": "never"},
    )
    assert template_messages(request.messages) == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "a\nb", "name": "ann"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "never"},
    ]


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "continue_final_message", "self"])
def test_template_variables_must_not_replace_the_request(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        chat(chat_template_kwargs={name: 1})
    assert caught.value.param == "chat_template_kwargs"
