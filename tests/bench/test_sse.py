"""Events come out whole, wherever the bytes were split."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from octavo.bench.sse import EventParser

_texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)


@given(data=st.data(), texts=st.lists(_texts, max_size=6), line_end=st.sampled_from(["\n", "\r\n"]))
def test_events_are_the_same_wherever_the_bytes_are_split(data: st.DataObject, texts: list[str], line_end: str) -> None:
    stream = "".join(f": comment{line_end}data: {text}{line_end}{line_end}" for text in texts).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)) | {0, len(stream)})
    parser = EventParser()
    events = [event for start, end in pairwise(cuts) for event in parser.feed(stream[start:end])]
    assert events == [text.encode() for text in texts]


def test_lines_of_one_event_are_joined_and_the_blank_after_the_colon_is_not_needed() -> None:
    assert list(EventParser().feed(b"data:one\nevent: x\ndata: two\n\n")) == [b"one\ntwo"]


def test_event_without_its_blank_line_counts_at_the_end() -> None:
    parser = EventParser()
    assert list(parser.feed(b"data: [DONE]")) == []
    assert list(parser.end()) == [b"[DONE]"]
