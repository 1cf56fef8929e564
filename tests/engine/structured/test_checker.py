"""Grammars of strangers are tried in a process that may die of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from octavo import StructuredOutputsParams
from octavo.engine.structured.checker import GrammarChecker
from octavo.engine.structured.grammar import write_grammar
from octavo.errors import RequestError

GOOD = write_grammar(StructuredOutputsParams(json={"type": "integer"}))


def chain(length: int) -> str:
    """Terminals that nest so deeply that the stack of a compiler does not suffice."""
    rules = "\n".join(f'R{index}: "b" R{index + 1}' for index in range(length))
    return write_grammar(StructuredOutputsParams(grammar=f'start: R0\n{rules}\nR{length}: "a"'))


@pytest.fixture
def checker() -> Iterator[GrammarChecker]:
    checker = GrammarChecker()
    yield checker
    checker.close()


def test_good_grammars_pass_and_wrong_ones_are_refused_with_the_cause(checker: GrammarChecker) -> None:
    checker.check(GOOD)
    for _ in range(2):
        with pytest.raises(RequestError, match="Invalid type: strng") as refused:
            checker.check(write_grammar(StructuredOutputsParams(json={"type": "strng"})))
        assert refused.value.param == "structured_outputs"
    checker.check(GOOD)


def test_a_grammar_that_kills_its_compiler_is_refused_and_others_go_on(checker: GrammarChecker) -> None:
    with pytest.raises(RequestError, match="too complex to be compiled"):
        checker.check(chain(15_000))
    checker.check(GOOD)


def test_a_grammar_that_takes_too_long_is_refused_and_others_go_on() -> None:
    checker = GrammarChecker(timeout_s=0.05)
    doubling = "\n".join(f"R{index}: R{index + 1} R{index + 1}" for index in range(40))
    started = time.monotonic()
    with pytest.raises(RequestError, match=r"more than 0\.05 seconds"):
        checker.check(write_grammar(StructuredOutputsParams(grammar=f'start: R0\n{doubling}\nR40: "a"')))
    assert time.monotonic() - started < 30
    checker.close()


def test_a_closed_checker_starts_no_process() -> None:
    checker = GrammarChecker()
    checker.close()
    with pytest.raises(RequestError, match="shutting down"):
        checker.check(GOOD)
