"""Every field of both requests through the official client: what it does is seen, or it is refused by name.

Fields with tests of their own are named in ``ELSEWHERE``; a field that is nowhere fails here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from octavo.api.openai.requests import ChatCompletionRequest, CompletionRequest
from tests.conformance.conftest import MODEL_NAME
from tests.server_process import ServerProcess

TOKEN, OTHER_TOKEN = 300, 301
END_OF_TURN = 2
COMPLETION: dict[str, Any] = {"prompt": "The light of the harbour was", "max_tokens": 24, "temperature": 0}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
RANDOM: dict[str, Any] = {"temperature": 1.5, "seed": 7}

# With these, sampling at a high temperature gives the greedy answer.
GREEDY_IN_EFFECT: dict[str, dict[str, Any]] = {
    "temperature": RANDOM | {"temperature": 0},
    "top_k": RANDOM | {"top_k": 1},
    "top_p": RANDOM | {"top_p": 1e-6},
    "min_p": RANDOM | {"min_p": 1},
}
# These make a text repeat itself less.
PENALTIES: dict[str, dict[str, Any]] = {
    "presence_penalty": {"presence_penalty": 2},
    "frequency_penalty": {"frequency_penalty": 2},
    "repetition_penalty": {"repetition_penalty": 1.8},
}
WITHOUT_EFFECT_IN_BOTH: dict[str, Any] = {
    "user": "somebody",
    "spaces_between_special_tokens": False,
    "guided_decoding_backend": "guidance",
}
WITHOUT_EFFECT_IN_CHATS: dict[str, Any] = {
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "flex",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_options": {"ttl": "30m"},
    "prompt_cache_retention": "24h",
    "prediction": {"type": "content", "content": "Paris"},
}
REFUSED_IN_CHATS: dict[str, Any] = {
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "reasoning_effort": "high",
    "verbosity": "low",
    "web_search_options": {},
    "moderation": {"model": "m"},
    "chat_template": "{{ messages }}",
    "documents": [{"title": "a", "text": "b"}],
    "guided_decoding_backend": "outlines",
}
REFUSED_IN_COMPLETIONS: dict[str, Any] = {"suffix": "x", "guided_decoding_backend": "outlines"}
TESTED_HERE = {
    *GREEDY_IN_EFFECT,
    *PENALTIES,
    *WITHOUT_EFFECT_IN_BOTH,
    *WITHOUT_EFFECT_IN_CHATS,
    *REFUSED_IN_CHATS,
    *REFUSED_IN_COMPLETIONS,
    "add_generation_prompt",
    "cache_salt",
    "continue_final_message",
    "ignore_eos",
    "include_stop_str_in_output",
    "logit_bias",
    "max_completion_tokens",
    "max_tokens",
    "min_tokens",
    "n",
    "priority",
    "seed",
    "skip_special_tokens",
    "stop",
    "stop_token_ids",
    "structural_tag",
}
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "tests/conformance/test_openai_client.py": (
        "model",
        "messages",
        "prompt",
        "logprobs",
        "top_logprobs",
        "stream",
        "stream_options",
    ),
    "tests/conformance/test_sampling_fields.py": (
        "allowed_token_ids",
        "bad_words",
        "best_of",
        "echo",
        "length_penalty",
        "prompt_logprobs",
        "return_token_ids",
        "truncate_prompt_tokens",
        "use_beam_search",
    ),
    "tests/conformance/test_structured_output.py": (
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "guided_whitespace_pattern",
        "response_format",
        "structured_outputs",
    ),
    "tests/e2e/test_tool_calls.py": ("tools", "tool_choice"),
    "tests/e2e/test_reasoning.py": (
        "chat_template_kwargs",
        "include_reasoning",
        "parallel_tool_calls",
        "thinking_token_budget",
    ),
}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as connected:
        yield connected


def complete(client: OpenAI, **fields: Any) -> Any:
    """Send fields that the client has names for and others alike."""
    return client.completions.create(model=MODEL_NAME, prompt="", extra_body=COMPLETION | fields)


def chat(client: OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(model=MODEL_NAME, messages=[], extra_body=CHAT | fields)


def text_of(client: OpenAI, **fields: Any) -> str:
    text: str = complete(client, **fields).choices[0].text
    return text


def ids_of(client: OpenAI, **fields: Any) -> list[int]:
    ids: list[int] = complete(client, return_token_ids=True, **fields).choices[0].token_ids
    return ids


def test_every_field_is_tested() -> None:
    fields = {
        field.alias or name
        for model in (ChatCompletionRequest, CompletionRequest)
        for name, field in model.model_fields.items()
    }
    assert fields == TESTED_HERE.union(*ELSEWHERE.values())
    for file, names in ELSEWHERE.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        assert [name for name in names if name not in text] == []


@pytest.mark.parametrize("name", GREEDY_IN_EFFECT)
def test_what_leaves_one_token_to_choose_from_makes_sampling_greedy(client: OpenAI, name: str) -> None:
    greedy = text_of(client)
    assert text_of(client, **RANDOM) != greedy
    assert text_of(client, **GREEDY_IN_EFFECT[name]) == greedy


def test_a_seed_repeats_an_answer_and_another_seed_gives_another(client: OpenAI) -> None:
    assert text_of(client, **RANDOM) == text_of(client, **RANDOM) != text_of(client, **(RANDOM | {"seed": 8}))
    first, second = (choice.text for choice in complete(client, **RANDOM, n=2).choices)
    assert first == text_of(client, **RANDOM) != second


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_bring_other_tokens_than_those_that_were_there(client: OpenAI, name: str) -> None:
    fields = {"max_tokens": 64, "ignore_eos": True}
    assert len(set(ids_of(client, **fields, **PENALTIES[name]))) > len(set(ids_of(client, **fields)))


def test_a_bias_decides(client: OpenAI) -> None:
    bias = {"logit_bias": {str(TOKEN): 100}, "max_tokens": 5}
    assert ids_of(client, **bias) == [TOKEN] * 5
    assert TOKEN not in ids_of(client, allowed_token_ids=[TOKEN, OTHER_TOKEN], logit_bias={str(TOKEN): -100})


def test_stops_end_the_text_and_stay_in_it_if_wanted(client: OpenAI) -> None:
    text = text_of(client, ignore_eos=True)
    stop = text[3:6]
    before = text[: text.index(stop)]
    assert text_of(client, ignore_eos=True, stop=[stop]) == before
    assert text_of(client, ignore_eos=True, stop=stop, include_stop_str_in_output=True) == before + stop
    ids = ids_of(client, ignore_eos=True)
    ended = complete(client, ignore_eos=True, stop_token_ids=[ids[4]]).choices[0]
    assert (ended.finish_reason, ended.stop_reason) == ("stop", ids[4])
    assert ids_of(client, ignore_eos=True, stop_token_ids=[ids[4]]) == ids[: ids.index(ids[4]) + 1]


def test_an_end_of_sequence_comes_when_it_may(client: OpenAI) -> None:
    plain = chat(client, max_tokens=64)
    assert plain.choices[0].finish_reason == "stop"
    length = plain.usage.completion_tokens
    longer = chat(client, max_tokens=64, min_tokens=length + 9)
    assert longer.usage.completion_tokens >= length + 9
    assert chat(client, max_tokens=64, ignore_eos=True).choices[0].finish_reason == "length"


def test_special_tokens_are_in_the_text_if_wanted(client: OpenAI) -> None:
    fields = {"logit_bias": {str(END_OF_TURN): 100}, "ignore_eos": True, "max_tokens": 2}
    assert text_of(client, **fields) == ""
    assert text_of(client, **fields, skip_special_tokens=False) == "<|im_end|>" * 2


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_chat_has_so_many_tokens_at_most(client: OpenAI, name: str) -> None:
    answer = chat(client, **{name: 3, "n": 2})
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage.completion_tokens == 6


def test_prefixes_are_shared_under_the_same_salt_only(client: OpenAI) -> None:
    words = [{"role": "user", "content": "A long message, so that there is a prefix that can be kept. " * 3}]

    def cached(salt: str) -> int:
        usage = chat(client, messages=words, max_tokens=1, cache_salt=salt).usage
        return usage.prompt_tokens_details.cached_tokens or 0

    assert [cached("a") > 0, cached("a") > 0, cached("b") > 0, cached("b") > 0] == [False, True, False, True]


def test_the_template_is_told_how_the_prompt_ends(client: OpenAI) -> None:
    begun = [*CHAT["messages"], {"role": "assistant", "content": "The capital is"}]

    def num_prompt_tokens(**fields: Any) -> int:
        return int(chat(client, messages=begun, max_tokens=1, **fields).usage.prompt_tokens)

    closed = num_prompt_tokens(add_generation_prompt=False)
    assert num_prompt_tokens() > closed > num_prompt_tokens(add_generation_prompt=False, continue_final_message=True)


def test_a_structural_tag_holds_what_follows_its_trigger(client: OpenAI) -> None:
    tag = {"structures": [{"begin": "<n>", "schema": {"const": 7}, "end": "</n>"}], "triggers": ["<"]}
    (trigger,) = client.post("/../tokenize", body={"prompt": "<"}, cast_to=dict)["tokens"]
    fields = {"logit_bias": {str(trigger): 100}, "max_tokens": 24}
    assert text_of(client, **fields) == "<" * 24
    assert re.match(r"<n>\s*7\s*</n>", text_of(client, **fields, structural_tag=tag))


@pytest.mark.parametrize("name", WITHOUT_EFFECT_IN_BOTH | WITHOUT_EFFECT_IN_CHATS)
def test_what_has_no_effect_changes_nothing(client: OpenAI, name: str) -> None:
    field = {name: (WITHOUT_EFFECT_IN_BOTH | WITHOUT_EFFECT_IN_CHATS)[name]}
    short = {"max_tokens": 6}
    assert chat(client, **short, **field).choices[0].message == chat(client, **short).choices[0].message
    if name in WITHOUT_EFFECT_IN_BOTH:
        assert text_of(client, **short, **field) == text_of(client, **short)


@pytest.mark.parametrize(
    ("ask", "name", "value"),
    [(chat, *item) for item in REFUSED_IN_CHATS.items()]
    + [(complete, *item) for item in REFUSED_IN_COMPLETIONS.items()],
)
def test_what_is_not_supported_is_refused_by_name(
    client: OpenAI, ask: Callable[..., Any], name: str, value: object
) -> None:
    with pytest.raises(openai.BadRequestError, match="is not supported: ") as caught:
        ask(client, **{name: value})
    assert (caught.value.param, caught.value.code) == (name, "unsupported_value")


def test_the_lowest_priority_value_is_served_first(random_model: Path) -> None:
    settings = {"scheduling_policy": "priority", "max_num_seqs": 1, "served_model_name": [MODEL_NAME]}
    ends: list[int] = []
    with (
        ServerProcess(model=str(random_model), kv_cache_memory_bytes=2**24, **settings) as running,
        OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0, timeout=60) as client,
        ThreadPoolExecutor(3) as threads,
    ):

        def ask(priority: int) -> None:
            complete(client, max_tokens=4, ignore_eos=True, priority=priority)
            ends.append(priority)

        first = client.completions.create(
            model=MODEL_NAME, prompt="x", max_tokens=900, stream=True, extra_body={"ignore_eos": True, "priority": -9}
        )
        next(iter(first))  # it runs now, and nobody else does
        waiting = [threads.submit(ask, priority) for priority in (5, 0, -5)]
        while running.metrics()["octavo_num_requests_waiting"] < len(waiting):
            time.sleep(0.01)
        first.close()
        for one in waiting:
            one.result()
    assert ends == [-5, 0, 5]
