"""The scheduler and its block pool under anything: a state machine that adds, steps, commits late, aborts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from octavo.engine.messages import StepEvents
from octavo.engine.request import RequestStatus
from octavo.engine.speculation.speculator import Speculator
from octavo.engine.step import StepPlan, StepResult
from tests.engine.fake_runner import VOCAB_SIZE, FakeRunner, expected_output, next_token
from tests.engine.made_requests import make_request, make_scheduler
from tests.engine.scripted_grammar import ScriptedGrammar
from tests.engine.speculation.made_drafts import ScriptedProposer

BLOCK_SIZE = 4
MAX_LEN = 24
MAX_NUM_SEQS = 4
STOP_TOKENS = frozenset([VOCAB_SIZE - 1])


def allowed_after(tokens: Sequence[int]) -> Sequence[int]:
    """What may follow: anything if the prompt begins with 0, else what an imagined grammar allows, often one token."""
    if tokens[0] == 0:
        return range(VOCAB_SIZE)
    choice = random.Random(hash(("grammar", tuple(tokens))))
    return choice.sample(range(VOCAB_SIZE), choice.choice([1, 1, 2, 3]))


def often_right(known: list[int], max_len: int) -> list[int]:
    """Guess what the imagined runner will say, or something else in one of four places."""
    guessed = list(known)
    for _ in range(max_len):
        token = next_token(guessed, allowed_after(guessed))
        guessed.append((token + (hash(("wrong", tuple(guessed))) % 4 == 0)) % VOCAB_SIZE)
    return guessed[len(known) :]


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        extra_blocks=st.integers(0, 6),
        budget=st.integers(1, 24),
        policy=st.sampled_from(["fcfs", "priority"]),
        prefix_caching=st.booleans(),
        depth=st.integers(1, 3),
        draft_len=st.integers(0, 5),
    )
    def build(self, extra_blocks: int, budget: int, policy, prefix_caching: bool, depth: int, draft_len: int) -> None:
        num_blocks = MAX_LEN // BLOCK_SIZE + extra_blocks  # the least that the engine accepts, or a little more
        self.scheduler = make_scheduler(
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            max_num_seqs=MAX_NUM_SEQS,
            budget=budget,
            prefix_caching=prefix_caching,
            policy=policy,
            speculator=Speculator(ScriptedProposer(often_right), num_tokens=draft_len) if draft_len else None,
        )
        self.runner = FakeRunner(num_blocks, BLOCK_SIZE, MAX_NUM_SEQS)
        self.budget = budget
        self.depth = depth
        self.in_flight: list[tuple[StepPlan, StepResult]] = []
        self.prompts: dict[str, tuple[list[int], int]] = {}
        self.outputs: dict[str, list[int]] = {}
        self.finished: set[str] = set()
        self.aborted: set[str] = set()
        self.num_known: dict[str, int] = {}

    @rule(
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=MAX_LEN - 1),
        max_tokens=st.integers(1, MAX_LEN),
        priority=st.integers(-1, 1),
        salt=st.sampled_from(["", "salt"]),
    )
    def add(self, prompt: list[int], max_tokens: int, priority: int, salt: str) -> None:
        name = str(len(self.prompts))
        max_tokens = min(max_tokens, MAX_LEN - len(prompt))
        self.prompts[name] = (prompt, max_tokens)
        self.outputs[name] = []
        request = make_request(
            name,
            prompt,
            max_tokens=max_tokens,
            arrival=len(self.prompts),
            priority=priority,
            cache_salt=salt,
            eos_token_ids=list(STOP_TOKENS),
        )
        if prompt[0] == 1:
            request.grammar = ScriptedGrammar(prompt, allowed_after)
        self.scheduler.add(request)

    @rule(num_steps=st.integers(1, 12))
    def run(self, num_steps: int) -> None:
        """Steps in a row, as many in flight as allowed: long sequences, full pools, preemptions."""
        for _ in range(num_steps):
            if len(self.in_flight) == self.depth:
                self.commit()
            self.schedule()

    @precondition(lambda self: len(self.in_flight) < self.depth)
    @rule()
    def schedule(self) -> None:
        running_before = {request.request_id for request in self.scheduler.running}
        plan = self.scheduler.schedule()
        self._check_events(plan, running_before)
        assert sum(plan.counts) <= self.budget
        assert len(set(plan.rows)) == len(plan.rows)
        if not plan.rows:
            assert self.in_flight or not self.scheduler.has_unfinished_requests, "deadlock"
            return
        self.in_flight.append((plan, self.runner.execute(plan)))

    def _check_events(self, plan: StepPlan, running_before: set[str]) -> None:
        """What is told of a plan is what it does to tokens that were known when their sequence was let in."""
        names = {request.row: request.request_id for request in self.scheduler.running}
        self.num_known |= {names[admission.row]: len(admission.token_ids) for admission in plan.admissions}
        counts = list(plan.counts)
        for sample, draft in plan.drafts.items():
            counts[plan.samples[sample]] -= len(draft)
        chunks = Counter(
            {
                names[row]: count
                for row, start, count in zip(plan.rows, plan.starts, counts, strict=True)
                if start < self.num_known[names[row]]
            }
        )
        events = plan.events or StepEvents()
        assert dict(events.chunks) == chunks
        assert {name for name, _ in events.admitted} == set(names.values()) - running_before
        assert set(events.preempted) == running_before - set(names.values())

    @precondition(lambda self: self.in_flight)
    @rule()
    def commit(self) -> None:
        for update in self.scheduler.commit(*self.in_flight.pop(0)):
            assert update.request_id not in self.finished
            assert update.request_id not in self.aborted
            self.outputs[update.request_id] += update.token_ids
            if update.finish_reason is not None:
                self.finished.add(update.request_id)

    @precondition(lambda self: self.prompts)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.prompts)))
        known = self.scheduler.abort(name)
        assert known == (name not in self.finished and name not in self.aborted)
        if known:
            self.aborted.add(name)

    @precondition(lambda self: not self.in_flight)
    @rule()
    def forget_prefixes(self) -> None:
        self.scheduler.kv_cache.pool.forget_cached()

    @invariant()
    def blocks_are_neither_lost_nor_in_two_hands(self) -> None:
        pool = self.scheduler.kv_cache.pool
        holders = Counter(block for request in self.scheduler.requests.values() for block in request.block_ids)
        free = pool.free_blocks()
        assert len(free) == len(set(free)) == pool.num_free
        for block in range(1, pool.num_blocks + 1):
            assert pool.ref_count(block) == holders[block]
            assert (block in free) == (holders[block] == 0)
        for request in self.scheduler.requests.values():
            assert len(set(request.block_ids)) == len(request.block_ids)
            if request.status is RequestStatus.WAITING:
                assert request.block_ids == []

    @invariant()
    def grammars_know_the_tokens_of_their_requests(self) -> None:
        for request in self.scheduler.requests.values():
            if request.grammar is not None:
                assert not request.grammar.error
                assert request.grammar.token_ids == request.token_ids

    @invariant()
    def rows_belong_to_one_request_each(self) -> None:
        rows = [request.row for request in self.scheduler.running]
        assert len(set(rows)) == len(rows)
        assert all(0 <= row < MAX_NUM_SEQS for row in rows)
        stats = self.scheduler.stats()
        assert stats.num_running + stats.num_waiting == len(self.scheduler.requests)

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for _ in range(10_000):
            if not self.scheduler.has_unfinished_requests:
                break
            self.schedule()
            while self.in_flight:
                self.commit()
        assert not self.scheduler.has_unfinished_requests
        assert self.scheduler.kv_cache.pool.num_used == 0
        for name, (prompt, max_tokens) in self.prompts.items():
            expected = expected_output(prompt, max_tokens, STOP_TOKENS, allowed_after)
            if name in self.finished:
                assert self.outputs[name] == expected
            else:
                assert self.outputs[name] == expected[: len(self.outputs[name])]


@pytest.mark.timeout(600)
class TestScheduler(SchedulerMachine.TestCase):
    settings = settings(
        max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
