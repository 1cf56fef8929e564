"""What the model is given in a step, against a loop over its tokens; host and device share memory, or do not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo import SamplingParams
from octavo.engine.batch_state import BatchState
from octavo.engine.step import Admission, StepPlan
from octavo.engine.step_inputs import StepArrays, make_step_inputs

BLOCK_SIZE = 4
MAX_MODEL_LEN = 24


@pytest.fixture(params=[True, False], ids=["shared memory", "copies"])
def shares_memory(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def make_state(shares_memory: bool) -> BatchState:
    """Return a state on the CPU that treats it, if told so, as a device that has memory of its own."""
    state = BatchState(max_num_seqs=6, max_model_len=MAX_MODEL_LEN, block_size=BLOCK_SIZE, device=torch.device("cpu"))
    if not shares_memory:
        state._shares_memory = False
        state.block_tables = state.block_tables.clone()
    return state


@st.composite
def plans(draw: st.DrawFn) -> StepPlan:
    """Steps of prefills, chunks and decodes, in any order of rows; those that reach their last token are sampled."""
    plan = StepPlan()
    free_blocks = iter(draw(st.permutations(range(1, 37))))
    for row in draw(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True)):
        length = draw(st.integers(1, MAX_MODEL_LEN))
        start = draw(st.integers(0, length - 1))
        end = draw(st.integers(start + 1, length))
        tokens = draw(st.lists(st.integers(0, 99), min_size=length, max_size=length))
        blocks = [next(free_blocks) for _ in range(-(-end // BLOCK_SIZE))]
        num_early = draw(st.integers(0, len(blocks)))
        plan.admissions.append(
            Admission(
                row=row,
                token_ids=tokens,
                prompt_len=draw(st.integers(1, length)),
                block_ids=blocks[:num_early],
                sampling_params=SamplingParams(),
                seed=row,
                stop_token_ids=frozenset(),
            )
        )
        plan.new_blocks.append((row, num_early, blocks[num_early:]))
        if end == length:
            plan.samples.append(len(plan.rows))
        plan.rows.append(row)
        plan.starts.append(start)
        plan.counts.append(end - start)
    return plan


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans())
def test_every_token_has_its_place(shares_memory: bool, plan: StepPlan) -> None:
    state = make_state(shares_memory)
    state.apply(plan)
    token_ids, context = make_step_inputs(StepArrays.of(plan), state, BLOCK_SIZE, [])
    expected_tokens, positions, slots, prompt_lens, query_starts = [], [], [], [], [0]
    for index, start, count in zip(range(len(plan.rows)), plan.starts, plan.counts, strict=True):
        admission, (_, _, later) = plan.admissions[index], plan.new_blocks[index]
        blocks = [*admission.block_ids, *later]
        for position in range(start, start + count):
            expected_tokens.append(admission.token_ids[position])
            positions.append(position)
            slots.append(blocks[position // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE)
            prompt_lens.append(admission.prompt_len)
        query_starts.append(len(positions))
        assert context.block_tables[index, : len(blocks)].tolist() == blocks
    ends = [start + count for start, count in zip(plan.starts, plan.counts, strict=True)]
    assert token_ids.dtype == torch.int64
    assert token_ids.tolist() == expected_tokens
    assert context.positions.tolist() == positions
    assert context.slots.tolist() == slots
    assert context.prompt_lens.tolist() == prompt_lens
    assert context.query_starts.tolist() == query_starts
    assert (context.query_starts.dtype, context.seq_lens.dtype) == (torch.int32, torch.int32)
    assert context.seq_lens.tolist() == ends
    assert (list(context.query_lens_host), list(context.seq_lens_host)) == (plan.counts, ends)
    assert context.block_tables.shape[1] == -(-max(ends) // BLOCK_SIZE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans())
def test_samples_are_taken_behind_last_tokens_and_written_there(shares_memory: bool, plan: StepPlan) -> None:
    state = make_state(shares_memory)
    state.apply(plan)
    step = StepArrays.of(plan)
    firsts = [sum(plan.counts[:index]) for index in range(len(plan.counts))]
    assert step.sampled_places.tolist() == [firsts[index] + plan.counts[index] - 1 for index in plan.samples]
    batch = state.sampling_batch(step)
    sampled = [plan.admissions[index] for index in plan.samples]
    assert batch.rows.seeds.tolist() == [admission.seed for admission in sampled]
    assert batch.rows.positions.tolist() == [len(admission.token_ids) - admission.prompt_len for admission in sampled]
    state.append(step, torch.arange(500, 500 + len(sampled)))
    for token, admission in enumerate(sampled, start=500):
        if len(admission.token_ids) < MAX_MODEL_LEN:
            known = [*admission.token_ids, token]
            assert state.token_ids[admission.row, : len(known)].tolist() == known
