"""vLLM's sampling fields through the official client, against a running server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.conformance.conftest import MODEL_NAME
from tests.server_process import ServerProcess

PROMPT = "The light of the harbour was"
GREEDY: dict[str, Any] = {"model": MODEL_NAME, "prompt": PROMPT, "temperature": 0, "max_tokens": 6}
CHAT: dict[str, Any] = {
    "model": MODEL_NAME,
    "messages": [{"role": "user", "content": "Say something about the sea."}],
    "temperature": 0,
    "max_tokens": 6,
}


@pytest.fixture
def client(server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as connected:
        yield connected


def extra(answer: Any) -> dict[str, Any]:
    """The fields of an answer that the client has no names for."""
    return answer.model_extra or {}


def complete(client: OpenAI, **body: Any) -> Any:
    return client.completions.create(**GREEDY, extra_body=body)


def test_token_ids_of_prompt_and_answer_are_returned_if_they_are_wanted(client: OpenAI) -> None:
    plain = complete(client).choices[0]
    assert not {"token_ids", "prompt_token_ids"} & extra(plain).keys()
    choice = complete(client, return_token_ids=True).choices[0]
    prompt_ids, token_ids = extra(choice)["prompt_token_ids"], extra(choice)["token_ids"]
    again = client.completions.create(**(GREEDY | {"prompt": prompt_ids}))
    assert again.choices[0].text == choice.text == plain.text
    assert len(token_ids) <= 6
    streamed: list[int] = []
    for chunk in client.completions.create(**GREEDY, stream=True, extra_body={"return_token_ids": True}):
        streamed += extra(chunk.choices[0])["token_ids"]
    assert streamed == token_ids


def test_chats_return_token_ids_too(client: OpenAI) -> None:
    answer = client.chat.completions.create(**CHAT, extra_body={"return_token_ids": True})
    token_ids = extra(answer.choices[0])["token_ids"]
    chunks = list(client.chat.completions.create(**CHAT, stream=True, extra_body={"return_token_ids": True}))
    assert extra(chunks[0])["prompt_token_ids"] == extra(answer)["prompt_token_ids"]
    assert [token for chunk in chunks for token in extra(chunk.choices[0]).get("token_ids", [])] == token_ids
    text = client.completions.create(**(GREEDY | {"prompt": extra(answer)["prompt_token_ids"]})).choices[0].text
    assert text == answer.choices[0].message.content


def test_only_allowed_tokens_come(client: OpenAI) -> None:
    choice = complete(client, allowed_token_ids=[50, 60], return_token_ids=True).choices[0]
    assert set(extra(choice)["token_ids"]) <= {50, 60}


def test_bad_words_do_not_come(client: OpenAI) -> None:
    text = complete(client).choices[0].text
    word = max(text.split(), key=len).strip(",.")
    answer = complete(client, bad_words=[word], return_token_ids=True).choices[0]
    assert answer.text != text
    # What is forbidden are the word's tokens; a model can still spell it in others.
    for spelled in (word, " " + word):
        prompt = client.completions.create(**(GREEDY | {"prompt": spelled}), extra_body={"return_token_ids": True})
        ids, found = extra(prompt.choices[0])["prompt_token_ids"], extra(answer)["token_ids"]
        assert not any(found[i : i + len(ids)] == ids for i in range(len(found)))


def test_a_prompt_can_be_cut_to_its_last_tokens(client: OpenAI) -> None:
    choice = complete(client, truncate_prompt_tokens=2, return_token_ids=True).choices[0]
    whole = complete(client, return_token_ids=True).choices[0]
    assert extra(choice)["prompt_token_ids"] == extra(whole)["prompt_token_ids"][-2:]


def test_prompt_logprobs_name_the_tokens_of_the_prompt(client: OpenAI) -> None:
    choice = complete(client, prompt_logprobs=2, return_token_ids=True).choices[0]
    scores, ids = extra(choice)["prompt_logprobs"], extra(choice)["prompt_token_ids"]
    assert scores[0] is None
    assert all(str(token) in position for token, position in zip(ids[1:], scores[1:], strict=True))
    assert all({"logprob", "rank", "decoded_token"} == set(entry) for entry in scores[1].values())
    answer = client.chat.completions.create(**CHAT, extra_body={"prompt_logprobs": 0})
    assert answer.usage is not None
    assert len(extra(answer)["prompt_logprobs"]) == answer.usage.prompt_tokens


def test_an_echo_puts_the_prompt_before_the_text_in_answers_and_streams(client: OpenAI) -> None:
    text = complete(client).choices[0].text
    assert complete(client, echo=True).choices[0].text == PROMPT + text
    chunks = list(client.completions.create(**GREEDY, stream=True, echo=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == PROMPT + text
    ids = extra(complete(client, return_token_ids=True).choices[0])["prompt_token_ids"]
    assert client.completions.create(**(GREEDY | {"prompt": ids}), echo=True).choices[0].text == PROMPT + text


def test_an_echo_with_logprobs_scores_the_prompt(client: OpenAI) -> None:
    scored = client.completions.create(**(GREEDY | {"max_tokens": 0}), echo=True, logprobs=1).choices[0]
    assert scored.text == PROMPT
    assert scored.finish_reason == "length"
    logprobs = scored.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == PROMPT
    assert (logprobs.token_logprobs or [0])[0] is None
    assert all(value < 0 for value in (logprobs.token_logprobs or [])[1:])
    both = client.completions.create(**GREEDY, echo=True, logprobs=1).choices[0]
    assert both.logprobs is not None
    assert "".join(both.logprobs.tokens or []).startswith(both.text)  # the token that ended it has no text
    assert (both.logprobs.token_logprobs or [])[: len(logprobs.tokens)] == logprobs.token_logprobs
    assert both.logprobs.text_offset == [
        len("".join(both.logprobs.tokens[:i])) for i in range(len(both.logprobs.tokens))
    ]


def test_the_best_of_several_are_the_most_likely_per_token(client: OpenAI) -> None:
    sampling = GREEDY | {"temperature": 1.5, "seed": 7, "logprobs": 0}
    every = client.completions.create(**sampling, n=6).choices
    best = client.completions.create(**sampling, n=2, best_of=6)

    def score(choice: Any) -> float:
        return float(sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs))

    expected = sorted(every, key=score, reverse=True)[:2]
    assert [choice.text for choice in best.choices] == [choice.text for choice in expected]
    assert [choice.index for choice in best.choices] == [0, 1]
    assert best.usage is not None
    assert best.usage.completion_tokens == sum(len(choice.logprobs.token_logprobs) for choice in every)


def test_a_stream_can_have_the_usage_with_every_chunk(client: OpenAI) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    for chunks in (
        list(client.completions.create(**GREEDY, stream=True, stream_options=options)),
        list(client.chat.completions.create(**CHAT, stream=True, stream_options=options)),
    ):
        counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage is not None]
        assert len(counts) == len(chunks)
        assert counts == sorted(counts)


def test_beam_search_finds_what_is_at_least_as_likely_as_the_greedy_answer(client: OpenAI) -> None:
    greedy = client.completions.create(**GREEDY, logprobs=0, extra_body={"ignore_eos": True}).choices[0]
    assert greedy.logprobs is not None
    beams = complete(client, use_beam_search=True, n=4, ignore_eos=True, return_token_ids=True)
    assert [choice.index for choice in beams.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in beams.choices}) == 4
    ids = extra(beams.choices[0])["prompt_token_ids"] + extra(beams.choices[0])["token_ids"]
    scored = client.completions.create(**(GREEDY | {"prompt": ids, "max_tokens": 0}), echo=True, logprobs=0).choices[0]
    assert scored.logprobs is not None
    best = sum((scored.logprobs.token_logprobs or [])[-6:])
    assert best >= sum(greedy.logprobs.token_logprobs or []) - 1e-3
    chat = client.chat.completions.create(**CHAT, n=2, extra_body={"use_beam_search": True, "length_penalty": 0.5})
    assert len(chat.choices) == 2
    assert chat.usage is not None
    assert chat.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"use_beam_search": True, "n": 11}, "n"),
        ({"use_beam_search": True, "stop": ["x"]}, "stop"),
        ({"allowed_token_ids": [10**8]}, "allowed_token_ids"),
        ({"truncate_prompt_tokens": 10**6}, "truncate_prompt_tokens"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 1, "n": 2}, "best_of"),
    ],
)
def test_wrong_values_are_refused_by_name(client: OpenAI, body: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, **body)
    assert caught.value.param == param
