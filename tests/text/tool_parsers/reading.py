"""What the tests of all parsers share: feeding a text in parts, and joining what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import strategies as st

from octavo.text.tool_parsers import Arguments, CallEnd, CallStart, Content, ToolParser


@dataclass
class Read:
    """Everything that a parser gave, joined: what a client of a stream has in the end."""

    content: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)


def read(parser: ToolParser, parts: Sequence[str]) -> Read:
    """Feed parts, check that events come in order, and join them."""
    result = Read()
    events = [event for part in parts for event in parser.push(part)] + parser.finish()
    for event in events:
        match event:
            case Content(text):
                assert text
                result.content += text
            case CallStart(index, name):
                assert index == len(result.calls) == len(result.whole)
                result.calls.append((name, ""))
            case Arguments(index, text):
                assert index == len(result.calls) - 1 == len(result.whole)
                name, arguments = result.calls[index]
                result.calls[index] = name, arguments + text
            case CallEnd(index, whole, _):
                assert index == len(result.calls) - 1 == len(result.whole)
                result.whole.append(whole)
    assert len(result.whole) == len(result.calls)
    return result


def cut(text: str, places: Sequence[int]) -> list[str]:
    """Cut a text at some places, taken modulo its length."""
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(borders)] or [""]


PLACES = st.lists(st.integers(0, 10**6), max_size=12)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
    | st.sampled_from(['"', "\\", "</tool_call>", "}{", "][", "a, b)", "'", "<tool_call>", "\n", "你好"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
CALLS = st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=3)
