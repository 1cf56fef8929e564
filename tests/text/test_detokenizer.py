"""The oracle is the tokenizers library's own decode of all the ids at once."""

import itertools
import time

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, decoders

from octavo.text import IncrementalDetokenizer, Tokenizer

from .made_tokenizers import (
    SAMPLE_TEXTS,
    byte_level_bpe,
    load_backend,
    loaded,
    metaspace_unigram,
    sentencepiece_bpe,
    with_decoder,
    wordpiece,
)

MAKES = [byte_level_bpe, sentencepiece_bpe, metaspace_unigram, wordpiece]
STREAMED_DECODERS = {
    "none": None,
    "gemma": decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
    "strip three": decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 3, 0)]),
    "strip each token": decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)]),
    "strip the anchor": decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip("x", 2, 0)]),
    "replace the anchor": decoders.Sequence([decoders.Replace("x", "yy"), decoders.ByteFallback()]),
    "replace in bytes": decoders.Sequence([decoders.Replace("<0x", "<0x"), decoders.ByteFallback()]),
    "bytes and metaspace": decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]),
    "metaspace, never": decoders.Metaspace(prepend_scheme="never"),
    "wordpiece without cleanup": decoders.WordPiece(cleanup=False),
    "nested byte level": decoders.Sequence([decoders.Sequence([decoders.ByteLevel()]), decoders.Fuse()]),
}
HELD_DECODERS = {
    "suffix of the last token": decoders.BPEDecoder(),
    "connectionist": decoders.CTC(),
    "regex": decoders.Replace(Regex("▁+"), " "),
    "replace in the whole": decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "c")]),
    "two after fusing": decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 0), decoders.Replace("a", "b")]),
    "metaspace, then strip": decoders.Sequence([decoders.Metaspace(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
    "words, then bytes": decoders.Sequence([decoders.WordPiece(), decoders.ByteFallback()]),
    "bytes twice": decoders.Sequence([decoders.ByteFallback(), decoders.ByteFallback()]),
    "no anchor": decoders.Sequence([decoders.Replace("x", ""), decoders.Replace("0", ""), decoders.Replace("_", "")]),
}

# The library itself panics when this one meets an empty token or text, so random ids cannot be tried on it.
STRIP_THE_END = {"strip the end": decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)])}


def stream(tokenizer: Tokenizer, chunks: list[list[int]], skip_special_tokens: bool) -> list[str]:
    detokenizer = IncrementalDetokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
    return [*(detokenizer.push(chunk) for chunk in chunks), detokenizer.finish()]


def ids_of(backend: tokenizers.Tokenizer) -> st.SearchStrategy[list[list[int]]]:
    """Chunks of ids of any tokens, special ones and holes beyond the vocabulary included."""
    one = st.integers(0, backend.get_vocab_size() + 2)
    return st.lists(st.lists(one, max_size=6), max_size=12)


def check_streaming(tokenizer: Tokenizer, backend: tokenizers.Tokenizer, chunks: list[list[int]], skip: bool) -> None:
    token_ids = list(itertools.chain.from_iterable(chunks))
    assert "".join(stream(tokenizer, chunks, skip)) == backend.decode(token_ids, skip_special_tokens=skip)


@pytest.mark.parametrize("make", MAKES)
@given(data=st.data(), skip=st.booleans())
def test_deltas_of_random_ids_join_to_the_full_decode(make, data, skip):
    check_streaming(loaded(make), make(), data.draw(ids_of(make())), skip)


@pytest.mark.parametrize("make", MAKES)
@given(
    text=st.lists(st.sampled_from([*SAMPLE_TEXTS, "é", "好", "𝄞", "\u200d", "H"]) | st.text(max_size=4)).map("".join)
)
def test_deltas_of_real_text_join_to_the_full_decode(make, text):
    token_ids = make().encode(text).ids
    check_streaming(loaded(make), make(), [[token_id] for token_id in token_ids], True)


@given(data=st.data())
def test_runs_of_byte_tokens_join_to_the_full_decode(data):
    """Whole, broken and interrupted characters, which random ids over a whole vocabulary seldom make."""
    backend = sentencepiece_bpe()
    parts = ["你".encode(), "🙂".encode(), b"\xe4", b"\xa0", b" ", b"a"]
    some = st.sampled_from(parts).map(lambda part: [3 + byte for byte in part])
    chunks = data.draw(st.lists(some | st.sampled_from([[0], [2], [259], [270]]), max_size=10))
    check_streaming(loaded(sentencepiece_bpe), backend, chunks, data.draw(st.booleans()))


@pytest.mark.parametrize("decoder", (STREAMED_DECODERS | HELD_DECODERS).values(), ids=STREAMED_DECODERS | HELD_DECODERS)
def test_every_decoder_is_exact(decoder):
    backend = with_decoder(decoder)
    tokenizer = load_backend(backend)

    @given(chunks=ids_of(backend), skip=st.booleans())
    def check(chunks, skip):
        check_streaming(tokenizer, backend, chunks, skip)

    check()


@pytest.mark.parametrize("decoder", STREAMED_DECODERS.values(), ids=STREAMED_DECODERS)
def test_common_decoders_stream(decoder):
    tokenizer = load_backend(with_decoder(decoder))
    first, _, _ = stream(tokenizer, [[4], [1]], True)
    assert first == "b"


@pytest.mark.parametrize("decoder", (HELD_DECODERS | STRIP_THE_END).values(), ids=HELD_DECODERS | STRIP_THE_END)
def test_decoders_that_look_at_the_whole_text_give_it_at_the_end(decoder):
    *deltas, rest = stream(load_backend(with_decoder(decoder)), [[4], [1]], True)
    assert deltas == ["", ""]
    assert rest


def test_half_a_character_is_held_back_until_it_is_whole():
    backend = byte_level_bpe()
    start, middle, end = (pre_token_id(backend, byte) for byte in "龘".encode())
    assert stream(loaded(byte_level_bpe), [[start], [middle], [end], []], True) == ["", "", "龘", "", ""]


def test_a_character_that_never_becomes_whole_ends_as_one_replacement_character():
    start, middle, _ = (pre_token_id(byte_level_bpe(), byte) for byte in "龘".encode())
    assert stream(loaded(byte_level_bpe), [[start, middle]], True) == ["", "\ufffd"]


def test_only_the_first_space_of_a_sentencepiece_text_is_stripped():
    ids = [sentencepiece_bpe().token_to_id(token) for token in ("▁Hello", "▁w", "▁", "▁Hello")]
    assert stream(loaded(sentencepiece_bpe), [[token_id] for token_id in ids], True)[:-1] == [
        "Hello",
        " w",
        " ",
        " Hello",
    ]


def test_bytes_in_any_order_become_what_the_library_makes_of_them():
    """Every sequence of up to four bytes from the borders of UTF-8's ranges."""
    borders = [0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xE0, 0xE1, 0xED, 0xF0, 0xF1, 0xF4, 0xF5]
    backend, tokenizer = byte_level_bpe(), loaded(byte_level_bpe)
    token_of = {byte: pre_token_id(backend, byte) for byte in borders}
    for length in 1, 2, 3:
        for sequence in itertools.product(borders, repeat=length):
            chunks = [[token_of[byte]] for byte in sequence]
            check_streaming(tokenizer, backend, chunks, True)
    for sequence in itertools.product([0x41, 0x80, 0x90, 0xE1, 0xF0, 0xF4], repeat=4):
        check_streaming(tokenizer, backend, [[token_of[byte]] for byte in sequence], True)


def test_ids_beyond_the_vocabulary_add_nothing():
    tokenizer = loaded(byte_level_bpe)
    hello = tokenizer.encode("Hello")
    assert "".join(stream(tokenizer, [[tokenizer.vocab_size + 7], hello, [10**6]], True)) == "Hello"


def test_a_byte_level_token_costs_microseconds():
    """A generous bound for a busy machine: the cost is about half a microsecond and must not grow with the text."""
    tokenizer = loaded(byte_level_bpe)
    token_ids = tokenizer.encode("The quick brown 你好 fox. " * 500)
    best = min(seconds_per_token(tokenizer, token_ids) for _ in range(3))
    assert best < 20e-6


def seconds_per_token(tokenizer: Tokenizer, token_ids: list[int]) -> float:
    detokenizer = IncrementalDetokenizer(tokenizer)
    start = time.perf_counter()
    for token_id in token_ids:
        detokenizer.push((token_id,))
    return (time.perf_counter() - start) / len(token_ids)


def pre_token_id(backend: tokenizers.Tokenizer, byte: int) -> int:
    """The id of the token that is this one byte."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [other for other in range(256) if other not in printable]
    token_id = backend.token_to_id(chr(byte) if byte in printable else chr(0x100 + hidden.index(byte)))
    assert token_id is not None
    return token_id
