"""Prompts have the number of tokens that transformers' tokenizer, or the server, counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

import octavo.models.box
from octavo.bench.openai_client import OpenAIClient
from octavo.bench.prompts import PromptMaker, make_counter, make_prompt_maker
from octavo.bench.serve_settings import Target
from octavo.errors import ModelError, OctavoError
from tests.bench.known_delays import KnownDelays, Schedule

_NANO = Path(octavo.models.box.__path__[0]) / "octavo-nano"


@pytest.fixture(scope="module")
def server() -> Iterator[KnownDelays]:
    with KnownDelays() as running:
        yield running


async def maker_for(
    server: KnownDelays, tokenizer: Path | None, *, is_chat: bool, as_token_ids: bool = False
) -> PromptMaker:
    async with OpenAIClient(Target(base_url=server.url)) as client:
        count = await make_counter(client, "m", tokenizer)
        return await make_prompt_maker(client, "m", count, is_chat=is_chat, as_token_ids=as_token_ids)


@pytest.mark.parametrize("num_tokens", [9, 60, 777])
async def test_messages_and_texts_have_the_wanted_length_by_transformers(server: KnownDelays, num_tokens: int) -> None:
    theirs = AutoTokenizer.from_pretrained(_NANO)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        chat = await maker_for(server, _NANO, is_chat=True)
        messages = chat.write(chat.random_text(chat.num_words(num_tokens), rng))
        written = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert len(theirs.encode(written, add_special_tokens=False)) == num_tokens
        plain = await maker_for(server, _NANO, is_chat=False)
        assert len(theirs.encode(plain.write(plain.random_text(plain.num_words(num_tokens), rng)))) == num_tokens


async def test_token_ids_are_those_of_the_words(server: KnownDelays) -> None:
    theirs = AutoTokenizer.from_pretrained(_NANO)
    maker = await maker_for(server, _NANO, is_chat=False, as_token_ids=True)
    text = maker.random_text(maker.num_words(50), np.random.default_rng(0))
    token_ids = maker.write(text)
    assert len(token_ids) == 50
    assert theirs.decode(token_ids) == "".join(f" {maker.words[index]}" for index in text)


async def test_server_counts_where_there_is_no_tokenizer(server: KnownDelays) -> None:
    server.play(Schedule())
    maker = await maker_for(server, None, is_chat=True)
    assert (maker.is_exact, maker.overhead) == (True, 3)
    assert server.seen() == []


async def test_two_requests_measure_where_nobody_counts(server: KnownDelays) -> None:
    server.play(Schedule(has_tokenizer=False))
    maker = await maker_for(server, None, is_chat=True)
    assert (maker.is_exact, maker.overhead, maker.tokens_per_word) == (False, 3, 1.0)
    assert [request.body["max_tokens"] for request in server.seen()] == [1, 1]
    server.play(Schedule(has_tokenizer=False, has_usage=False))
    assert "one token a word assumed" in (await maker_for(server, None, is_chat=True)).method


async def test_server_that_refuses_to_be_measured_is_told(server: KnownDelays) -> None:
    server.play(Schedule(has_tokenizer=False, errors={"0": 401}))
    with pytest.raises(OctavoError, match="refused a first, short request: http_401: failure 0"):
        await maker_for(server, None, is_chat=True)


async def test_directory_without_a_tokenizer_is_refused(server: KnownDelays, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        await maker_for(server, tmp_path, is_chat=True)
