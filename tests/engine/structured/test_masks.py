"""Masks on logits."""

from __future__ import annotations

from collections.abc import Callable

import torch

from octavo import StructuredOutputsParams
from octavo.engine.structured.compiler import CompiledGrammar
from octavo.engine.structured.masks import AllowedTokens, MaskWorker
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


def test_the_rows_behind_a_draft_have_the_masks_that_hold_there(
    compile_grammar: Callable[[StructuredOutputsParams], CompiledGrammar], tokenizer: Tokenizer
) -> None:
    state = compile_grammar(StructuredOutputsParams(regex="[AB][CD](E|F[GH])")).start()
    other = compile_grammar(StructuredOutputsParams(regex="[XY]")).start()
    draft = tokenizer.encode("ADF")
    pending = MaskWorker(VOCAB_SIZE, torch.device("cpu")).begin([GrammarRows(1, state, draft), GrammarRows(5, other)])
    assert pending is not None
    logits = torch.zeros(6, VOCAB_SIZE)
    pending.result().apply(logits)
    for row, text in enumerate(("AB", "CD", "EF", "GH", "XY"), start=1):
        assert set(logits[row].isfinite().nonzero().flatten().tolist()) == {tokenizer.encode(c)[0] for c in text}
    assert logits[0].isfinite().all()
    assert state.count_allowed(draft) == len(draft)  # it stands where it stood


def test_a_step_without_grammars_has_no_masks() -> None:
    assert MaskWorker(VOCAB_SIZE, torch.device("cpu")).begin([]) is None


def test_where_something_else_forbids_the_rest_the_grammar_counts() -> None:
    allowed = AllowedTokens(torch.tensor([0, 1]), torch.tensor([[0b110], [0b010]], dtype=torch.int32))
    logits = torch.tensor([[1.0, 2.0, -torch.inf], [1.0, -torch.inf, 3.0]])
    allowed.apply(logits, revive=True)
    assert logits.tolist() == [[-torch.inf, 2.0, -torch.inf], [-torch.inf, 0.0, -torch.inf]]
