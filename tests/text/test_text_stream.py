"""Tokens in, text out: against the full decode, cut where the first stop string is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import RequestError
from octavo.text import TextDelta, TextStream

from .made_tokenizers import byte_level_bpe, loaded, sentencepiece_bpe

MAKES = [byte_level_bpe, sentencepiece_bpe]


def chunked(token_ids: list[int], size: int) -> list[list[int]]:
    return [token_ids[start : start + size] for start in range(0, len(token_ids), size)] or [[]]


def run(stream: TextStream, chunks: list[list[int]]) -> tuple[str, str | None, int]:
    """Push chunks until a stop string; return the text, the stop string and the number of tokens used."""
    text, num_used = "", 0
    for index, chunk in enumerate(chunks):
        delta = stream.push(chunk, finished=index == len(chunks) - 1)
        text += delta.text
        num_used += delta.num_tokens_used
        if delta.stop_string is not None:
            return text, delta.stop_string, num_used
    return text, None, num_used


@pytest.mark.parametrize("make", MAKES)
@given(data=st.data(), size=st.integers(1, 5), skip=st.booleans())
def test_without_stop_strings_the_text_is_the_full_decode(make, data, size, skip):
    token_ids = data.draw(st.lists(st.integers(0, make().get_vocab_size() - 1), max_size=20))
    stream = TextStream(loaded(make), skip_special_tokens=skip)
    expected = make().decode(token_ids, skip_special_tokens=skip)
    assert run(stream, chunked(token_ids, size)) == (expected, None, len(token_ids))


@pytest.mark.parametrize("make", MAKES)
@given(data=st.data(), size=st.integers(1, 5), stop=st.sampled_from(["l", "lo w", " ", "o\ufffd", "你好", "\ufffd"]))
def test_the_text_ends_before_the_first_stop_string(make, data, size, stop):
    some = st.sampled_from([*make().encode("Hello world 你好 🙂 llo").ids, 5, 200])
    token_ids = data.draw(st.lists(some, max_size=20))
    whole = make().decode(token_ids)
    text, stop_string, num_used = run(TextStream(loaded(make), stop=[stop]), chunked(token_ids, size))
    assert text == whole.split(stop)[0]
    assert stop_string == (stop if stop in whole else None)
    if stop_string is None:
        assert num_used == len(token_ids)


def test_the_tokens_after_the_one_that_completes_a_stop_string_are_not_used():
    tokenizer = loaded(byte_level_bpe)
    token_ids = [token_id for char in "abcdef" for token_id in tokenizer.encode(char)]
    delta = TextStream(tokenizer, stop=["cd"]).push(token_ids, finished=False)
    assert delta == TextDelta("ab", "cd", 4)


def test_the_stop_string_can_be_part_of_the_text():
    tokenizer = loaded(byte_level_bpe)
    stream = TextStream(tokenizer, stop=["cd"], include_stop_str_in_output=True)
    assert stream.push(tokenizer.encode("abcdef"), finished=True).text == "abcd"


def test_nothing_comes_after_a_stop_string():
    tokenizer = loaded(byte_level_bpe)
    stream = TextStream(tokenizer, stop=["b"])
    stream.push(tokenizer.encode("ab"), finished=False)
    assert stream.push(tokenizer.encode("more"), finished=True) == TextDelta("", "b", 0)


@pytest.mark.parametrize(("min_tokens", "expected"), [(0, ""), (1, "a"), (2, "aa"), (3, "aaaa"), (9, "aaaa")])
def test_text_of_the_first_min_tokens_tokens_never_counts_towards_a_stop_string(min_tokens, expected):
    """As for an end-of-sequence token: that many tokens come first. With three, "a" alone is left to match "aa"."""
    tokenizer = loaded(byte_level_bpe)
    token_ids = tokenizer.encode("a") * 4
    for size in 1, 4:
        assert run(TextStream(tokenizer, stop=["aa"], min_tokens=min_tokens), chunked(token_ids, size))[0] == expected


def test_what_was_held_back_is_released_at_the_end():
    tokenizer = loaded(byte_level_bpe)
    stream = TextStream(tokenizer, stop=["abc"])
    half = tokenizer.encode("龘")[:1]
    assert stream.push([*tokenizer.encode("xab"), *half], finished=False).text == "x"
    assert stream.push([], finished=True) == TextDelta("ab\ufffd", None, 0)


def test_a_stop_string_that_only_the_end_completes_is_found():
    tokenizer = loaded(byte_level_bpe)
    half = tokenizer.encode("龘")[:1]
    token_ids = [*tokenizer.encode("ab"), *half]
    delta = TextStream(tokenizer, stop=["b\ufffd"]).push(token_ids, finished=True)
    assert delta == TextDelta("a", "b\ufffd", len(token_ids))


def test_special_tokens_are_left_out_unless_they_are_wanted():
    tokenizer = loaded(byte_level_bpe)
    token_ids = tokenizer.encode("a<|end|>")
    assert TextStream(tokenizer).push(token_ids, finished=True).text == "a"
    assert TextStream(tokenizer, skip_special_tokens=False).push(token_ids, finished=True).text == "a<|end|>"


def test_wrong_stop_strings_are_refused():
    with pytest.raises(RequestError, match="empty"):
        TextStream(loaded(byte_level_bpe), stop=[""])
