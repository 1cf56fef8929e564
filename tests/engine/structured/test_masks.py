"""Masks on logits."""

from __future__ import annotations

from collections.abc import Callable

import torch

from octavo import StructuredOutputsParams
from octavo.engine.structured.compiler import CompiledGrammar
from octavo.engine.structured.masks import ForbiddenTokens, MaskWorker
from octavo.engine.structured.state import GrammarRows
from octavo.text import Tokenizer
from tests.engine.structured.conftest import VOCAB_SIZE


def test_only_what_the_grammar_allows_keeps_its_logit(
    compile_grammar: Callable[[StructuredOutputsParams], CompiledGrammar], tokenizer: Tokenizer
) -> None:
    states = [compile_grammar(StructuredOutputsParams(regex=text)).start() for text in ("[xyz]", "a")]
    worker = MaskWorker(VOCAB_SIZE, torch.device("cpu"))
    pending = worker.begin([GrammarRows(0, states[0]), GrammarRows(2, states[1])])
    assert pending is not None
    logits = torch.randn(3, VOCAB_SIZE)
    masked = logits.clone()
    pending.result().apply(masked)
    for row, text in ((0, "xyz"), (2, "a")):
        allowed = sorted(tokenizer.encode(char)[0] for char in text)
        assert masked[row].isfinite().nonzero().flatten().tolist() == allowed
        assert torch.equal(masked[row, allowed], logits[row, allowed])
    assert torch.equal(masked[1], logits[1])


def test_a_step_without_grammars_has_no_masks() -> None:
    assert MaskWorker(VOCAB_SIZE, torch.device("cpu")).begin([]) is None


def test_where_something_else_forbids_the_rest_the_grammar_counts() -> None:
    forbidden = ForbiddenTokens([0, 1], torch.tensor([[True, False, False], [True, False, True]]))
    logits = torch.tensor([[1.0, 2.0, -torch.inf], [1.0, -torch.inf, 3.0]])
    forbidden.apply(logits, revive=True)
    assert logits.tolist() == [[-torch.inf, 2.0, -torch.inf], [-torch.inf, 0.0, -torch.inf]]
