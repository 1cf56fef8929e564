"""The oracle looks at the whole text character by character, the way a reader would define the first stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import RequestError
from octavo.text.stop_strings import MAX_STOP_CHARS, StopStringMatcher

FEW_LETTERS = st.text(alphabet="ab你🙂", max_size=5)


def first_stop(text: str, stop: list[str], include_in_output: bool) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        complete = [string for string in stop if text[:end].endswith(string)]
        if complete:
            found = max(complete, key=len)
            return text[: end if include_in_output else end - len(found)], found
    return text, None


def stream(stop: list[str], deltas: list[str], include_in_output: bool = False) -> tuple[list[str], str | None]:
    matcher = StopStringMatcher(stop, include_in_output)
    texts = []
    for delta in deltas:
        text, found = matcher.push(delta)
        texts.append(text)
        if found is not None:
            return texts, found
    return [*texts, matcher.finish()], None


@given(
    stop=st.lists(FEW_LETTERS.filter(bool), max_size=4),
    deltas=st.lists(FEW_LETTERS, max_size=10),
    include_in_output=st.booleans(),
)
def test_any_chunking_gives_what_the_whole_text_gives(stop, deltas, include_in_output):
    texts, found = stream(stop, deltas, include_in_output)
    assert ("".join(texts), found) == first_stop("".join(deltas), stop, include_in_output)


@given(stop=st.lists(FEW_LETTERS.filter(bool), min_size=1, max_size=4), deltas=st.lists(FEW_LETTERS, max_size=10))
def test_only_what_may_become_a_stop_string_is_held_back(stop, deltas):
    matcher = StopStringMatcher(stop, False)
    shown = given_so_far = ""
    for delta in deltas:
        text, found = matcher.push(delta)
        if found is not None:
            return
        shown += text
        given_so_far += delta
        held = given_so_far[len(shown) :]
        starts = [
            string[:length]
            for string in stop
            for length in range(len(string))
            if given_so_far.endswith(string[:length])
        ]
        assert held == max(starts, key=len)


def test_a_stop_string_across_parts_does_not_leak():
    assert stream(["\nUser:"], ["Hi", "!\n", "Us", "er", ": more"]) == (["Hi", "!", "", "", ""], "\nUser:")


def test_a_false_start_is_released_as_soon_as_it_fails():
    assert stream(["<end>"], ["a<e", "x", "<en"]) == (["a", "<ex", "", "<en"], None)


def test_the_stop_string_can_be_part_of_the_output():
    assert stream(["END"], ["on E", "ND and on"], include_in_output=True) == (["on ", "END"], "END")


def test_the_stop_string_that_is_complete_first_wins():
    assert stream(["abcd", "bc"], ["xabcd"]) == (["xa"], "bc")


def test_of_stop_strings_complete_at_once_the_longest_wins():
    assert stream(["c", "abc", "bc"], ["xab", "c"]) == (["x", ""], "abc")


def test_without_stop_strings_the_very_same_text_comes_back():
    text = "some text"
    assert StopStringMatcher([], False).push(text)[0] is text


def test_an_empty_stop_string_is_refused():
    with pytest.raises(RequestError, match="empty") as refused:
        StopStringMatcher(["a", ""], False)
    assert refused.value.param == "stop"


def test_very_long_stop_strings_are_refused():
    with pytest.raises(RequestError, match=str(MAX_STOP_CHARS)) as refused:
        StopStringMatcher(["a" * MAX_STOP_CHARS, "b"], False)
    assert refused.value.param == "stop"
