"""Drafts from texts: what followed before, in the sequence or in earlier outputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.request import Request
from octavo.engine.speculation import suffix
from octavo.engine.speculation.ngram import NgramProposer
from octavo.engine.speculation.suffix import SuffixProposer
from octavo.engine.speculation.token_search import find_longest_end
from tests.engine.made_requests import make_request


def request(prompt: list[int], output: list[int] | None = None, *, name: str = "a", salt: str = "") -> Request:
    made = make_request(name, prompt, cache_salt=salt)
    made.token_ids += output or []
    return made


def suffix_proposer(**changes: float) -> SuffixProposer:
    settings = {"max_depth": 8, "max_cached_requests": 10, "max_spec_factor": 1.0, "min_token_prob": 0.1} | changes
    return SuffixProposer(**settings)


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(1, 6))
def test_the_longest_end_is_found_at_all_of_its_places(tokens: list[int], max_length: int):
    def places_of(length: int) -> list[int]:
        end = tokens[len(tokens) - length :]
        return [place for place in range(length, len(tokens)) if tokens[place - length : place] == end]

    lengths = [length for length in range(1, min(max_length, len(tokens)) + 1) if places_of(length)]
    array = np.array(tokens, dtype=np.int32)
    places, length = find_longest_end(array, array, max_length)
    assert length == max(lengths, default=0)
    assert places.tolist() == (places_of(length) if length else [])


def test_ngram_takes_what_followed_the_latest_longest_match():
    proposer = NgramProposer(min_length=2, max_length=3)
    assert proposer.propose([request([1, 2, 3, 4, 9, 2, 3, 5, 8, 1, 2, 3])], [2]) == [[4, 9]]
    assert proposer.propose([request([9, 2, 3, 4, 8, 2, 3, 5, 7, 2, 3], name="b")], [2]) == [[5, 7]]


def test_ngram_goes_on_with_what_repeats_itself():
    assert NgramProposer(min_length=2, max_length=4).propose([request([7, 1, 2, 3, 1, 2, 3])], [8]) == [
        [1, 2, 3, 1, 2, 3, 1, 2]
    ]


def test_ngram_guesses_nothing_where_too_little_is_the_same():
    proposer = NgramProposer(min_length=2, max_length=4)
    assert proposer.propose([request([1]), request([5, 1, 6, 1], name="b")], [4, 4]) == [[], []]


def test_ngram_sees_tokens_that_came_since():
    proposer = NgramProposer(min_length=1, max_length=4)
    growing = request([1, 2])
    assert proposer.propose([growing], [3]) == [[]]
    growing.token_ids += [3, 1]
    assert proposer.propose([growing], [2]) == [[2, 3]]
    proposer.forget(growing)
    assert proposer.propose([request([4, 4])], [1]) == [[4]]


def test_suffix_follows_the_commonest_way_of_earlier_outputs():
    proposer = suffix_proposer()
    for number, output in enumerate([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 2, 3, 7, 8]]):
        proposer.forget(request([0], output, name=str(number)))
    assert proposer.propose([request([9, 1, 2, 3])], [5]) == [[4, 5]]  # of equally common tokens the lowest
    assert suffix_proposer().propose([request([9, 1, 2, 3])], [5]) == [[]]


def test_suffix_ends_a_draft_that_is_unlikely_or_longer_than_its_match():
    proposer = suffix_proposer(min_token_prob=0.5)
    for number, output in enumerate([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 2, 3, 7, 8]]):
        proposer.forget(request([0], output, name=str(number)))
    assert proposer.propose([request([9, 1, 2, 3])], [5]) == [[4]]  # then 5 or 6: a chance of one in three
    longer = suffix_proposer()
    longer.forget(request([0], [1, 2, 3, 4, 5, 6], name="x"))
    assert longer.propose([request([1, 2])], [5]) == [[3, 4]]


@pytest.mark.parametrize(("salt_of_first", "salt_of_second"), [("secret", ""), ("", "secret"), ("x", "x")])
def test_suffix_keeps_requests_with_a_salt_apart(salt_of_first: str, salt_of_second: str):
    proposer = suffix_proposer()
    proposer.forget(request([0], [1, 2, 3, 4], salt=salt_of_first))
    assert proposer.propose([request([1, 2], name="b", salt=salt_of_second)], [2]) == [[]]


def test_suffix_forgets_the_oldest_outputs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(suffix, "MAX_CACHED_TOKENS", 30)
    proposer = suffix_proposer()
    for number in range(50):
        proposer.forget(request([0], [100 + number, number, number], name=str(number)))
    assert len(proposer._outputs.tokens) <= 60
    assert proposer.propose([request([149, 49])], [1]) == [[49]]
    assert proposer.propose([request([100, 0], name="b")], [1]) == [[]]
