"""Puts drafts into step plans, and keeps count of what becomes of them. Knows requests and blocks, no tensors.

Drafts get what is left of a step's budget and of the free blocks when everything else is planned, so they delay and
preempt nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from octavo.engine.speculation.pacing import AcceptanceRate, Pacer

if TYPE_CHECKING:
    from octavo.engine.kv_cache import KVCacheManager
    from octavo.engine.messages import EngineStats
    from octavo.engine.request import Request
    from octavo.engine.speculation.proposer import Proposer
    from octavo.engine.step import StepPlan


@dataclass(slots=True)
class SpeculationCounts:
    """What has become of drafts so far.

    Attributes:
        accepted_per_pos: of each place in a draft, how often its token was accepted.
    """

    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    accepted_per_pos: list[int] = field(default_factory=list)

    def tell(self, stats: EngineStats) -> None:
        """Put the counts among those that monitoring shows."""
        stats.total_drafts = self.num_drafts
        stats.total_draft_tokens = self.num_draft_tokens
        stats.total_accepted_tokens = self.num_accepted_tokens
        stats.total_accepted_per_pos = list(self.accepted_per_pos)


@dataclass(slots=True)
class _Candidate:
    """A sample of a plan that may bring a draft of ``length`` tokens."""

    sample: int
    request: Request
    length: int
    draft: list[int] = field(default_factory=list)


class Speculator:
    """Drafts for the sequences that decode.

    Args:
        num_tokens: tokens of a draft at most.
    """

    def __init__(self, proposer: Proposer, *, num_tokens: int, pacer: Pacer | None = None) -> None:
        self.num_tokens = num_tokens
        self.counts = SpeculationCounts(accepted_per_pos=[0] * num_tokens)
        self._proposer = proposer
        self._pacer = pacer or Pacer()
        self._rates: dict[str, AcceptanceRate] = {}

    def extend(self, plan: StepPlan, kv_cache: KVCacheManager, budget: int) -> None:
        """Append drafts to the sequences of a plan that decode: that compute outputs, and sample the next.

        Args:
            budget: tokens that the plan may still take.
        """
        candidates = [c for c in self._candidates(plan, budget) if self._is_worth_while(c, sum(plan.counts))]
        if not self._proposer.computes:
            candidates = self._propose(candidates)
        candidates = self._limit(plan, candidates, kv_cache)
        if self._proposer.computes:
            candidates = self._propose(candidates)
        for candidate in candidates:
            _append(plan, candidate)

    def observe(self, request: Request, num_drafted: int, num_accepted: int) -> None:
        """Learn what became of a draft."""
        counts = self.counts
        counts.num_drafts += 1
        counts.num_draft_tokens += num_drafted
        counts.num_accepted_tokens += num_accepted
        for place in range(num_accepted):
            counts.accepted_per_pos[place] += 1
        self._rate_of(request).observe(num_drafted, num_accepted)

    def forget(self, request: Request) -> None:
        """A request has ended."""
        self._rates.pop(request.request_id, None)
        self._proposer.forget(request)

    def _candidates(self, plan: StepPlan, budget: int) -> list[_Candidate]:
        """Return the samples that may bring a draft; those that end a prompt do not, unless it is a single token."""
        candidates = []
        for sample, (index, request) in enumerate(zip(plan.samples, plan.sampled_requests, strict=True)):
            if plan.counts[index] > 1 and plan.starts[index] < request.prompt_len:
                continue
            max_len = min(self.num_tokens, budget, request.max_num_tokens - len(request.token_ids) - 1)
            if max_len > 0:
                candidates.append(_Candidate(sample, request, max_len))
                budget -= max_len
        return candidates

    def _is_worth_while(self, candidate: _Candidate, num_tokens: int) -> bool:
        """Return whether it pays to begin with drafts of a request: to compute what must be known before a guess.

        An answer is expected to go on for as many tokens as it has. So one that ends soon costs nothing, and what a
        long one loses by waiting is at most what it takes to begin.
        """
        request = candidate.request
        return self._pacer.pays_to_catch_up(
            self._rate_of(request).value,
            candidate.length,
            num_behind=self._proposer.num_behind(request),
            num_expected=min(request.num_output_tokens, request.max_num_tokens - len(request.token_ids)),
            num_tokens=num_tokens,
        )

    def _propose(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """Fetch drafts, each up to what a grammar forbids; those for whom there is none drop out."""
        if not candidates:
            return []
        drafts = self._proposer.propose([c.request for c in candidates], [c.length for c in candidates])
        for candidate, draft in zip(candidates, drafts, strict=True):
            grammar = candidate.request.grammar
            candidate.draft = draft if grammar is None else draft[: grammar.count_allowed(draft)]
            candidate.length = len(candidate.draft)
        return [candidate for candidate in candidates if candidate.draft]

    def _limit(self, plan: StepPlan, candidates: list[_Candidate], kv_cache: KVCacheManager) -> list[_Candidate]:
        """Shorten drafts to what is worth while, and to the blocks that are free; those left with nothing drop out."""
        rates = [self._rate_of(candidate.request) for candidate in candidates]
        lens = self._pacer.choose_lens(
            [rate.value for rate in rates], [c.length for c in candidates], num_tokens=sum(plan.counts)
        )
        for candidate, rate, length in zip(candidates, rates, lens, strict=True):
            if length == 0:
                rate.recover()
            candidate.length = _make_room(plan, candidate.request, length, kv_cache)
        return [candidate for candidate in candidates if candidate.length > 0]

    def _rate_of(self, request: Request) -> AcceptanceRate:
        return self._rates.setdefault(request.request_id, AcceptanceRate())


def _make_room(plan: StepPlan, request: Request, length: int, kv_cache: KVCacheManager) -> int:
    """Give a request blocks for a draft of ``length`` tokens; returns for how many there was room."""
    num_known = request.num_computed_tokens
    room = (len(request.block_ids) + kv_cache.pool.num_free) * kv_cache.block_size - num_known
    length = min(length, room)
    if num_known + length > len(request.block_ids) * kv_cache.block_size:
        first_new = len(request.block_ids)
        new_blocks = kv_cache.extend(request, num_known + length)
        if new_blocks is None:
            raise AssertionError("there was room for the draft")
        plan.new_blocks.append((request.row, first_new, new_blocks))
    return length


def _append(plan: StepPlan, candidate: _Candidate) -> None:
    draft = candidate.draft[: candidate.length]
    plan.drafts[candidate.sample] = draft
    plan.counts[plan.samples[candidate.sample]] += len(draft)
    candidate.request.num_tokens += len(draft)
    candidate.request.num_computed_tokens += len(draft)
