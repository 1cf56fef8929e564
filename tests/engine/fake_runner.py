"""A runner without tensors that checks what the scheduler tells it.

Its KV cache holds, for each slot, the tokens up to that position; before it "samples" from a sequence it checks that
every earlier position's slot holds the right ones. A block that was shared wrongly, freed too early or never
computed shows at once. Its tokens depend on all earlier tokens and on nothing else, so outputs can be predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from octavo.engine.step import StepPlan, StepResult
from tests.engine.scripted_grammar import ScriptedGrammar

VOCAB_SIZE = 5


def next_token(token_ids: Sequence[int], allowed: Sequence[int] = range(VOCAB_SIZE)) -> int:
    """The token that follows, as the imagined model has it."""
    return allowed[hash(("next", tuple(token_ids))) % len(allowed)]


def expected_output(
    prompt: list[int],
    num_tokens: int,
    stop_token_ids: frozenset[int] = frozenset(),
    allowed_after: Callable[[Sequence[int]], Sequence[int]] = lambda _: range(VOCAB_SIZE),
) -> list[int]:
    """What a request must produce whatever happens around it."""
    tokens = list(prompt)
    for _ in range(num_tokens):
        tokens.append(next_token(tokens, allowed_after(tokens)))
        if tokens[-1] in stop_token_ids:
            break
    return tokens[len(prompt) :]


class FakeRunner:
    """Executes plans against an imagined cache of ``num_blocks`` blocks."""

    def __init__(self, num_blocks: int, block_size: int, max_num_seqs: int) -> None:
        self.block_size = block_size
        self.cache: list[list[object]] = [[None] * block_size for _ in range(num_blocks + 1)]
        self.tokens: list[list[int]] = [[] for _ in range(max_num_seqs)]
        self.blocks: list[list[int]] = [[] for _ in range(max_num_seqs)]
        self.num_drafted = [0] * max_num_seqs

    def execute(self, plan: StepPlan) -> StepResult:
        for admission in plan.admissions:
            self.tokens[admission.row] = list(admission.token_ids)
            self.num_drafted[admission.row] = 0
            self.blocks[admission.row] = list(admission.block_ids)
        for row, index, block_ids in plan.new_blocks:
            assert len(self.blocks[row]) == index
            self.blocks[row] += block_ids
        for row, index, token_ids in plan.forced_tokens:
            assert index <= len(self.tokens[row])
            self.tokens[row][index:] = token_ids
            self.num_drafted[row] = 0
        batch = list(zip(plan.rows, plan.starts, plan.counts, strict=True))
        for sample, draft in plan.drafts.items():
            row, start, count = batch[plan.samples[sample]]
            self.tokens[row][start + count - len(draft) :] = draft
        for row, start, count in batch:
            assert count > 0
            for position in range(start, start + count):
                self._write(row, position)
        for row, start, count in batch:
            for position in range(start + count):
                self._check(row, position)
        sampled = []
        grammars = {rows.first_row: rows for rows in plan.grammar_rows}
        for sample, index in enumerate(plan.samples):
            row, start, count = batch[index]
            num_drafted = len(plan.drafts.get(sample, ()))
            num_rejected = len(self.tokens[row]) - start - count
            assert 0 <= num_rejected <= self.num_drafted[row], "a sample follows the last known token"
            self.num_drafted[row] = num_drafted
            ends = range(start + count - num_drafted, start + count + 1)
            grammar = grammars.get(len(sampled))
            if grammar is None:
                following = [next_token(self.tokens[row][:end]) for end in ends]
            else:
                assert isinstance(grammar.state, ScriptedGrammar)
                assert grammar.state.token_ids == self.tokens[row][: ends[0]]
                assert len(grammar.draft) == num_drafted
                allowed = grammar.state.allowed_along(grammar.draft)
                following = [next_token(self.tokens[row][:end], a) for end, a in zip(ends, allowed, strict=True)]
            self.tokens[row][ends[0] :] = following
            sampled += following
        return StepResult(sampled)

    def _write(self, row: int, position: int) -> None:
        block = self.blocks[row][position // self.block_size]
        assert block != 0, "the padding block is nobody's"
        self.cache[block][position % self.block_size] = tuple(self.tokens[row][: position + 1])

    def _check(self, row: int, position: int) -> None:
        block = self.blocks[row][position // self.block_size]
        assert self.cache[block][position % self.block_size] == tuple(self.tokens[row][: position + 1])
