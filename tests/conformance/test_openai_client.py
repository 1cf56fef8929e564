"""The official client against the running server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.conformance.conftest import MODEL_NAME
from tests.server_process import ServerProcess

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
GREEDY: dict[str, Any] = {"model": MODEL_NAME, "messages": MESSAGES, "temperature": 0, "max_tokens": 8}


@pytest.fixture
def client(server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as connected:
        yield connected


@pytest.fixture
async def async_client(server: ServerProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as connected:
        yield connected


def test_models_are_listed_and_described(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL_NAME, "other-name"]
    model = client.models.retrieve(MODEL_NAME)
    assert (model.id, model.object, model.owned_by) == (MODEL_NAME, "model", "octavo")
    assert model.model_extra is not None
    assert model.model_extra["max_model_len"] > 0


def test_a_chat_completion_has_its_text_reason_and_usage(client: OpenAI) -> None:
    completion = client.chat.completions.create(**GREEDY)
    choice = completion.choices[0]
    assert completion.object == "chat.completion"
    assert completion.model == MODEL_NAME
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 0
    assert 0 < completion.usage.completion_tokens <= 8
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_the_second_of_two_equal_prompts_is_cached(client: OpenAI) -> None:
    words = [{"role": "user", "content": "Tell me a story about a lighthouse, a ship and a very long night. " * 2}]
    for _ in range(2):
        usage = client.chat.completions.create(**(GREEDY | {"messages": words})).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert 0 < (usage.prompt_tokens_details.cached_tokens or 0) < usage.prompt_tokens


def test_a_stream_joins_to_the_answer_of_a_plain_request(client: OpenAI) -> None:
    expected = client.chat.completions.create(**GREEDY)
    chunks = list(client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True}))
    first, *middle, end, usage = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in middle) == expected.choices[0].message.content
    assert all(chunk.choices[0].finish_reason is None and chunk.usage is None for chunk in middle)
    assert end.choices[0].finish_reason == expected.choices[0].finish_reason
    assert usage.choices == []
    assert usage.usage is not None
    assert expected.usage is not None
    assert usage.usage.completion_tokens == expected.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_has_no_usage_unless_it_was_asked_for(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(**GREEDY, stream=True))
    assert all(chunk.choices and "usage" not in chunk.model_fields_set for chunk in chunks)


def test_the_stream_helper_of_the_client_understands_the_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(**GREEDY, logprobs=True, top_logprobs=2) as stream:
        for _ in stream:
            pass
        completion = stream.current_completion_snapshot
    plain = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=2)
    assert completion.choices[0].message.content == plain.choices[0].message.content
    assert completion.choices[0].logprobs is not None
    assert plain.choices[0].logprobs is not None
    assert [entry.token for entry in completion.choices[0].logprobs.content or []] == [
        entry.token for entry in plain.choices[0].logprobs.content or []
    ]


def test_several_answers_to_one_prompt(client: OpenAI) -> None:
    fields = GREEDY | {"temperature": 1.0, "n": 3, "seed": 7, "extra_body": {"ignore_eos": True}}
    completion = client.chat.completions.create(**fields)
    texts: dict[int, str] = {0: "", 1: "", 2: ""}
    reasons = {}
    for chunk in client.chat.completions.create(**fields, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
        reasons[choice.index] = choice.finish_reason
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert {choice.index: choice.message.content for choice in completion.choices} == texts
    assert set(reasons.values()) == {"length"}
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 24


def test_chat_logprobs_agree_with_greedy_decoding(client: OpenAI) -> None:
    logprobs = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == max(top.logprob for top in entry.top_logprobs)
        assert entry.bytes is not None
        assert bytes(entry.bytes).decode(errors="replace") == entry.token
        assert entry.top_logprobs[0].token == entry.token


def test_the_bytes_of_logprobs_join_to_the_text(client: OpenAI) -> None:
    choice = client.chat.completions.create(
        **GREEDY, logprobs=True, extra_body={"ignore_eos": True, "skip_special_tokens": False}
    ).choices[0]
    assert choice.logprobs is not None
    joined = b"".join(bytes(entry.bytes or []) for entry in choice.logprobs.content or [])
    assert joined.decode(errors="replace") == choice.message.content


def test_completions_take_text_and_token_ids(client: OpenAI) -> None:
    greedy: dict[str, Any] = {"model": MODEL_NAME, "temperature": 0, "max_tokens": 6}
    tokens = client.post("/../tokenize", body={"prompt": "Hello there"}, cast_to=dict)["tokens"]
    one = client.completions.create(prompt="Hello there", **greedy)
    several = client.completions.create(prompt=["Hello there", "Hello there"], **greedy)
    as_ids = client.completions.create(prompt=[tokens, tokens], **greedy)
    single = client.completions.create(prompt=tokens, **greedy)
    text = one.choices[0].text
    assert [choice.text for choice in several.choices] == [text, text]
    assert [choice.text for choice in as_ids.choices] == [text, text]
    assert [choice.text for choice in single.choices] == [text]
    assert one.usage is not None
    assert several.usage is not None
    assert several.usage.prompt_tokens == 2 * one.usage.prompt_tokens == 2 * len(tokens)


def test_completion_streams_and_plain_answers_agree(client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL_NAME, "prompt": ["One", "Two"], "max_tokens": 5, "n": 2, "seed": 3}
    fields |= {"logprobs": 2, "extra_body": {"ignore_eos": True}}
    plain = client.completions.create(**fields)
    texts, tokens, offsets = [""] * 4, [[] for _ in range(4)], [[] for _ in range(4)]  # type: ignore[var-annotated]
    for chunk in client.completions.create(**fields, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] += choice.text
        if choice.logprobs is not None:
            tokens[choice.index] += choice.logprobs.tokens or []
            offsets[choice.index] += choice.logprobs.text_offset or []
    assert [choice.text for choice in plain.choices] == texts
    for choice in plain.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.tokens == tokens[choice.index]
        assert choice.logprobs.text_offset == offsets[choice.index]
        assert choice.logprobs.top_logprobs is not None
        assert all(2 <= len(top) <= 3 for top in choice.logprobs.top_logprobs)


def test_stop_strings_end_the_text_and_are_named(client: OpenAI) -> None:
    whole = client.completions.create(
        model=MODEL_NAME, prompt="Hello", max_tokens=12, temperature=0, extra_body={"ignore_eos": True}
    )
    text = whole.choices[0].text
    stop = text[len(text) // 2 :][:2]
    choice = client.completions.create(
        model=MODEL_NAME, prompt="Hello", max_tokens=12, temperature=0, stop=stop, extra_body={"ignore_eos": True}
    ).choices[0]
    assert choice.text == text[: text.index(stop)]
    assert choice.finish_reason == "stop"
    assert choice.model_extra is not None
    assert choice.model_extra["stop_reason"] == stop


async def test_many_asynchronous_requests_at_once_give_what_each_gives_alone(async_client: AsyncOpenAI) -> None:
    async def ask(number: int) -> str | None:
        messages: Any = [{"role": "user", "content": f"Say the number {number}."}]
        completion = await async_client.chat.completions.create(**(GREEDY | {"messages": messages}))
        return completion.choices[0].message.content

    alone = [await ask(number) for number in range(4)]
    assert await asyncio.gather(*(ask(number) for number in range(4))) == alone


async def test_asynchronous_stream(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(**GREEDY, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == (await async_client.chat.completions.create(**GREEDY)).choices[0].message.content


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**(GREEDY | {"model": "gpt-7"}))
    assert caught.value.code == "model_not_found"
    assert MODEL_NAME in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-7")


def test_a_prompt_that_is_too_long_names_both_lengths(client: OpenAI) -> None:
    limit = (client.models.retrieve(MODEL_NAME).model_extra or {})["max_model_len"]
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL_NAME, prompt=[5] * (limit + 3))
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "prompt"
    assert str(limit + 3) in caught.value.message
    assert str(limit) in caught.value.message
    long: Any = [{"role": "user", "content": "word " * 2 * limit}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL_NAME, messages=long, stream=True)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"response_format": {"type": "json"}}, "response_format.type"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"extra_body": {"temprature": 1}}, "temprature"),
        ({"extra_body": {"stop_token_ids": [10**9]}}, "stop_token_ids"),
        ({"logit_bias": {"999999999": 1}}, "logit_bias"),
    ],
)
def test_wrong_requests_name_the_field(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**(GREEDY | fields), stream=stream)
        assert caught.value.param == param


def test_tools_reach_the_chat_template_unless_the_choice_is_none(client: OpenAI) -> None:
    function = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    tools: Any = [{"type": "function", "function": function}]
    plain = client.chat.completions.create(**GREEDY).usage
    without = client.chat.completions.create(**GREEDY, tools=tools, tool_choice="none").usage
    assert plain is not None
    assert without is not None
    assert without.prompt_tokens == plain.prompt_tokens
    offered = client.chat.completions.create(**GREEDY, tools=tools, tool_choice="auto").usage
    assert offered is not None
    assert offered.prompt_tokens >= plain.prompt_tokens


def test_tokenize_and_detokenize_are_inverse(client: OpenAI) -> None:
    tokenized = client.post("/../tokenize", body={"prompt": "héllo 世界 🙂", "return_token_strs": True}, cast_to=dict)
    assert tokenized["count"] == len(tokenized["tokens"]) == len(tokenized["token_strs"])
    restored = client.post("/../detokenize", body={"tokens": tokenized["tokens"]}, cast_to=dict)
    assert restored["prompt"] == "héllo 世界 🙂"
    of_messages = client.post("/../tokenize", body={"messages": MESSAGES}, cast_to=dict)
    usage = client.chat.completions.create(**GREEDY).usage
    assert usage is not None
    assert of_messages["count"] == usage.prompt_tokens
    with pytest.raises(openai.BadRequestError):
        client.post("/../detokenize", body={"tokens": [10**9]}, cast_to=dict)
    with pytest.raises(openai.BadRequestError):
        client.post("/../tokenize", body={}, cast_to=dict)
