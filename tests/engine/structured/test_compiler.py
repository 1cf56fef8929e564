"""Compiled grammars: the cache, its bounds, and what is refused."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from llguidance import LLTokenizer

from octavo import StructuredOutputsParams
from octavo.engine.structured.compiler import CompiledGrammar, GrammarCompiler
from octavo.engine.structured.grammar import write_grammar
from octavo.engine.structured.vocabulary import grammar_vocabulary
from octavo.errors import RequestError
from octavo.text import Tokenizer
from tests.engine.structured.conftest import VOCAB_SIZE


def regex(pattern: str) -> str:
    return write_grammar(StructuredOutputsParams(regex=pattern))


def test_a_grammar_is_compiled_once_while_it_is_cached(vocabulary: LLTokenizer) -> None:
    compiler = GrammarCompiler(lambda: vocabulary, max_grammars=2)
    first = compiler.submit(regex("a"))
    compiler.submit(regex("b"))
    assert compiler.submit(regex("a")) is first
    compiler.submit(regex("c"))  # b was used longest ago
    assert compiler.submit(regex("a")) is first
    assert compiler.num_cached == 2


def test_large_grammars_leave_room_for_few(vocabulary: LLTokenizer) -> None:
    compiler = GrammarCompiler(lambda: vocabulary, max_bytes=2**21)
    for index in range(10):
        compiler.submit(regex(f"{index}" * 3000)).result(timeout=30)
    assert compiler.num_cached == 2


def test_sequences_of_one_grammar_do_not_know_each_other(vocabulary: LLTokenizer, tokenizer: Tokenizer) -> None:
    grammar = GrammarCompiler(lambda: vocabulary).submit(regex("ab|ba")).result(timeout=30)
    one, other = grammar.start(), grammar.start()
    assert one.accept(tokenizer.encode("a")[0])
    assert other.accept(tokenizer.encode("b")[0])
    assert one.forced_token == tokenizer.encode("b")[0]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (StructuredOutputsParams(json={"type": "strng"}), "Invalid type: strng"),
        (StructuredOutputsParams(json={"$ref": "#"}), "no text can satisfy it"),
        (StructuredOutputsParams(regex="(?=a)b"), "look-around"),
    ],
)
def test_what_cannot_be_compiled_is_refused(
    vocabulary: LLTokenizer, params: StructuredOutputsParams, words: str
) -> None:
    future: Future[CompiledGrammar] = GrammarCompiler(lambda: vocabulary).submit(write_grammar(params))
    with pytest.raises(RequestError, match=words) as refused:
        future.result(timeout=30)
    assert refused.value.param == "structured_outputs"
    assert "verbose" not in str(refused.value)


def test_a_model_without_an_end_of_sequence_has_no_structured_outputs(tokenizer: Tokenizer) -> None:
    smallest_eos = min(tokenizer.eos_token_ids)
    with pytest.raises(RequestError, match="no end-of-sequence token"):
        grammar_vocabulary(tokenizer, smallest_eos)


def test_rows_of_the_model_without_a_token_are_never_allowed(tokenizer: Tokenizer) -> None:
    assert grammar_vocabulary(tokenizer, VOCAB_SIZE + 50).vocab_size == VOCAB_SIZE + 50
