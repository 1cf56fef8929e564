"""Sizes and counts as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.config.sizes import format_bytes, parse_bytes, parse_count


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("512", 512), ("1KiB", 1024), ("4G", 4 * 2**30), ("1.5GiB", 3 * 2**29), ("32 MB", 32 * 10**6), ("2tib", 2**41)],
)
def test_sizes_have_binary_and_decimal_units(text, num_bytes):
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize(("text", "count"), [("16", 16), ("8k", 8000), ("8K", 8192), ("1m", 10**6), ("1M", 2**20)])
def test_counts_have_small_and_large_letters(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize("parse", [parse_bytes, parse_count])
@pytest.mark.parametrize("text", ["", "x", "8 q", "-1", "1e3", "1,5"])
def test_other_texts_are_refused_with_an_example(parse, text):
    with pytest.raises(ValueError, match="write"):
        parse(text)


@settings(deadline=None)  # the machine may be busy
@given(st.one_of(st.integers(), st.none(), st.floats(), st.booleans()))
def test_what_is_no_text_is_left_alone(value):
    assert parse_bytes(value) is value
    assert parse_count(value) is value


def test_sizes_are_written_for_people():
    assert [format_bytes(n) for n in (0, 1023, 1536, 2**30, 5 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1.0 GiB",
        "5.0 TiB",
    ]
