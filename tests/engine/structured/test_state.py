"""The state of one sequence: what may follow, what must, and the way back."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from octavo import StructuredOutputsParams
from octavo.engine.structured.compiler import CompiledGrammar
from octavo.engine.structured.grammar import write_grammar
from octavo.engine.structured.limits import parser_limits
from octavo.engine.structured.state import GrammarState
from octavo.text import Tokenizer
from tests.engine.structured.conftest import VOCAB_SIZE
from tests.engine.structured.made_schemas import make_schema

Compile = Callable[[StructuredOutputsParams], CompiledGrammar]


def allowed_tokens(state: GrammarState) -> list[int]:
    mask = np.empty((VOCAB_SIZE + 31) // 32, dtype=np.uint32)
    state.fill_mask(mask)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[:VOCAB_SIZE]
    return [int(token_id) for token_id in np.flatnonzero(bits)]


def walk(state: GrammarState, rng: random.Random, num_tokens: int) -> list[int]:
    """Take random allowed tokens, at most ``num_tokens`` and not beyond the end."""
    tokens: list[int] = []
    while len(tokens) < num_tokens and not state.is_complete:
        tokens.append(rng.choice(allowed_tokens(state)))
        assert state.accept(tokens[-1])
    return tokens


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(0, 10_000))
def test_the_mask_allows_what_the_library_accepts(
    vocabulary: LLTokenizer, compile_grammar: Compile, seed: int, num_tokens: int, choices: int
) -> None:
    params = StructuredOutputsParams(json=make_schema(seed))
    state = compile_grammar(params).start()
    tokens = walk(state, random.Random(choices), num_tokens)
    oracle = LLMatcher(vocabulary, write_grammar(params), limits=parser_limits())
    assert oracle.consume_tokens(tokens)
    accepted = [token_id for token_id in range(VOCAB_SIZE) if oracle.validate_tokens([token_id])]
    if state.is_complete:
        assert allowed_tokens(state) == [vocabulary.eos_token]
    elif state.forced_token is None:
        assert allowed_tokens(state) == accepted
    else:
        assert allowed_tokens(state) == [state.forced_token]
        assert state.forced_token in accepted


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 10_000))
def test_a_fork_goes_its_own_way(compile_grammar: Compile, seed: int, num_tokens: int, choices: int) -> None:
    state = compile_grammar(StructuredOutputsParams(json=make_schema(seed))).start()
    walk(state, random.Random(choices), num_tokens)
    before = (state.forced_token, allowed_tokens(state))
    forks = [state.fork(), state.fork()]
    ways = [walk(fork, random.Random(choices), 8) for fork in forks]
    assert ways[0] == ways[1]
    assert allowed_tokens(forks[0]) == allowed_tokens(forks[1])
    assert (state.forced_token, allowed_tokens(state)) == before


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 20), st.integers(0, 6), st.integers(0, 10_000))
def test_a_draft_is_allowed_up_to_what_the_masks_forbid(
    compile_grammar: Compile, seed: int, num_tokens: int, num_right: int, choices: int
) -> None:
    state, rng = compile_grammar(StructuredOutputsParams(json=make_schema(seed))).start(), random.Random(choices)
    walk(state, rng, num_tokens)
    before = allowed_tokens(state)
    ahead = state.fork()
    draft = walk(ahead, rng, num_right)
    assert state.count_allowed(draft) == len(draft)
    wrong = sorted(set(range(VOCAB_SIZE)) - set(allowed_tokens(ahead)))
    assert state.count_allowed([*draft, rng.choice(wrong), *draft]) == len(draft)
    assert allowed_tokens(state) == before
    assert not state.error


def test_forced_tokens_spell_what_the_grammar_dictates(compile_grammar: Compile, tokenizer: Tokenizer) -> None:
    state = compile_grammar(StructuredOutputsParams(regex="[ab] is the letter")).start()
    assert state.forced_token is None
    assert state.accept(tokenizer.encode("a")[0])
    forced: list[int] = []
    while not state.is_complete:
        assert state.forced_token is not None
        forced.append(state.forced_token)
        assert state.accept(forced[-1])
    assert tokenizer.decode(forced) == " is the letter"


def test_a_complete_text_is_followed_by_the_end_of_the_sequence(compile_grammar: Compile, tokenizer: Tokenizer) -> None:
    state = compile_grammar(StructuredOutputsParams(regex="a")).start()
    walk(state, random.Random(0), 1)
    assert state.is_complete
    assert state.forced_token in tokenizer.eos_token_ids
    assert state.accept(state.forced_token)
    assert state.count_allowed([state.forced_token, tokenizer.encode("a")[0]]) == 1


def test_the_sequence_may_end_where_the_text_may(compile_grammar: Compile, tokenizer: Tokenizer) -> None:
    state = compile_grammar(StructuredOutputsParams(regex="a+")).start()
    walk(state, random.Random(0), 1)
    assert set(tokenizer.eos_token_ids) < set(allowed_tokens(state))
    assert state.accept(tokenizer.eos_token_ids[-1])
    assert state.is_complete


def test_a_token_that_does_not_follow_is_an_error_that_stays(compile_grammar: Compile, tokenizer: Tokenizer) -> None:
    state = compile_grammar(StructuredOutputsParams(regex="[ab]x")).start()
    assert not state.accept(tokenizer.encode("c")[0])
    assert "cannot be held to this form" in state.error
    assert not state.accept(tokenizer.encode("a")[0])
    assert len(allowed_tokens(state)) == VOCAB_SIZE


def test_a_grammar_that_becomes_too_complex_is_an_error_of_its_sequence_alone(
    compile_grammar: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octavo.engine.structured.limits._MAX_LEXER_STATES", 300)
    grammar = compile_grammar(StructuredOutputsParams(regex="(.*[ab].{100}){50}"))
    state, rng = grammar.start(), random.Random(0)
    for _ in range(1000):
        state.accept(rng.choice(allowed_tokens(state)))
        if state.error:
            break
    assert "too many states" in state.error
    assert "<" not in state.error
