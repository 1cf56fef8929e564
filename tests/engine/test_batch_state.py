"""The runner's memory of its rows: a step gathers what each row's request asked for, and nothing of the row's past."""

from __future__ import annotations

import math
from typing import Any

import torch

from octavo import SamplingParams
from octavo.engine.batch_state import BatchState
from octavo.engine.sampler import SamplingBatch, sample
from octavo.engine.step import Admission, StepPlan
from octavo.engine.step_inputs import StepArrays

MAX_MODEL_LEN = 12


def make_state() -> BatchState:
    return BatchState(max_num_seqs=4, max_model_len=MAX_MODEL_LEN, block_size=4, device=torch.device("cpu"))


def admission(row: int, params: SamplingParams, *, tokens: int = 3, prompt_len: int = 3, **fields: Any) -> Admission:
    fields = {"seed": 0, "stop_token_ids": frozenset(), "block_ids": [1], **fields}
    return Admission(row=row, token_ids=list(range(tokens)), prompt_len=prompt_len, sampling_params=params, **fields)


def plan_of(*admissions: Admission) -> StepPlan:
    """A step that computes and samples all tokens of the requests that it admits."""
    return StepPlan(
        admissions=list(admissions),
        rows=[item.row for item in admissions],
        starts=[0] * len(admissions),
        counts=[len(item.token_ids) for item in admissions],
        samples=list(range(len(admissions))),
    )


def applied(state: BatchState, *admissions: Admission) -> StepPlan:
    plan = plan_of(*admissions)
    state.apply(plan)
    return plan


def batch_of(state: BatchState, *admissions: Admission) -> SamplingBatch:
    return state.sampling_batch(StepArrays.of(applied(state, *admissions)))


def filters_of(batch: SamplingBatch) -> tuple[bool, int, bool, bool]:
    return batch.rows.all_greedy, batch.rows.max_top_k, batch.rows.any_top_p, batch.rows.any_min_p


def test_a_step_gathers_the_parameters_of_its_rows_in_its_own_order():
    state = make_state()
    first = admission(2, SamplingParams(temperature=0.5, top_k=7, top_p=0.75, min_p=0.25), seed=11)
    second = admission(0, SamplingParams(temperature=0), tokens=5, seed=-1)
    batch = state.sampling_batch(StepArrays.of(applied(state, first, second)))
    assert batch.rows.temperature.tolist() == [0.5, 0.0]
    assert batch.rows.top_k.tolist() == [7, 0]
    assert batch.rows.top_p.tolist() == [0.75, 1.0]
    assert batch.rows.min_p.tolist() == [0.25, 0.0]
    assert batch.rows.seeds.tolist() == [11, -1]
    assert batch.rows.positions.tolist() == [0, 2]
    assert filters_of(batch) == (False, 7, True, True)
    assert (batch.penalties, batch.biases, batch.num_logprobs) == (None, None, None)


def test_a_greedy_row_with_a_great_top_k_does_not_disturb_a_random_row_with_a_small_one():
    batch = batch_of(
        make_state(),
        admission(0, SamplingParams(temperature=0, top_k=50)),
        admission(1, SamplingParams(top_k=1)),
    )
    logits = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    token_ids, _ = sample(logits.clone(), batch)
    assert token_ids.tolist() == logits.argmax(dim=-1).tolist()


def test_numbers_beyond_64_bits_signed_are_accepted():
    batch = batch_of(make_state(), admission(0, SamplingParams(top_k=2**63), seed=2**64 - 1))
    assert batch.rows.seeds.tolist() == [-1]
    assert 0 <= int(sample(torch.zeros(1, 10), batch)[0]) < 10


def test_a_row_forgets_the_request_that_had_it_before():
    state = make_state()
    demanding = SamplingParams(
        logit_bias={5: 1.0}, logprobs=2, min_tokens=3, presence_penalty=1.0, top_p=0.5, min_p=0.1, top_k=3
    )
    batch = batch_of(state, admission(0, demanding, stop_token_ids=frozenset({9})))
    assert batch.penalties is not None
    assert batch.biases == ([0, 0], [5, 9], [1.0, -math.inf])
    assert batch.num_logprobs == [2]
    batch = batch_of(state, admission(0, SamplingParams(temperature=0)))
    assert (batch.penalties, batch.biases, batch.num_logprobs) == (None, None, None)
    assert filters_of(batch) == (True, 0, False, False)


def test_only_the_rows_of_the_step_count():
    state = make_state()
    state.apply(plan_of(admission(0, SamplingParams(logprobs=1, presence_penalty=1, logit_bias={1: 1}, top_p=0.5))))
    batch = batch_of(state, admission(1, SamplingParams()))
    assert (batch.penalties, batch.biases, batch.num_logprobs, batch.rows.any_top_p) == (None, None, None, False)


def test_stop_tokens_are_forbidden_until_min_tokens_are_there():
    params = SamplingParams(min_tokens=2)
    stop = frozenset({7, 8})
    for num_output_tokens, is_forbidden in ((0, True), (1, True), (2, False), (3, False)):
        batch = batch_of(make_state(), admission(0, params, tokens=3 + num_output_tokens, stop_token_ids=stop))
        forbidden = set() if batch.biases is None else set(batch.biases[1])
        assert forbidden == (stop if is_forbidden else set())


def test_penalties_know_the_tokens_of_their_rows():
    state = make_state()
    batch = batch_of(
        state,
        admission(3, SamplingParams()),
        admission(1, SamplingParams(presence_penalty=0.5, frequency_penalty=-1, repetition_penalty=2), tokens=5),
    )
    assert batch.penalties is not None
    assert batch.penalties.rows.tolist() == [1]
    assert batch.penalties.token_ids.tolist() == [[0, 1, 2, 3, 4]]
    assert (batch.penalties.prompt_lens.tolist(), batch.penalties.lens.tolist()) == ([3], [5])
    assert batch.penalties.presence.tolist() == [0.5]
    assert batch.penalties.frequency.tolist() == [-1.0]
    assert batch.penalties.repetition.tolist() == [2.0]


def test_new_blocks_go_into_the_block_table_of_their_row():
    state = make_state()
    state.apply(StepPlan(admissions=[admission(1, SamplingParams(), block_ids=[5])]))
    state.apply(StepPlan(new_blocks=[(1, 1, [9, 4])]))
    assert state.block_tables[1].tolist() == [5, 9, 4]
    assert state.block_tables[0].tolist() == [0, 0, 0]


def test_a_sampled_token_stands_behind_the_tokens_of_its_row():
    state = make_state()
    plan = applied(state, admission(0, SamplingParams()), admission(2, SamplingParams(), tokens=5))
    state.append(StepArrays.of(plan), torch.tensor([70, 80]))
    assert state.token_ids[0, :4].tolist() == [0, 1, 2, 70]
    assert state.token_ids[2, :6].tolist() == [0, 1, 2, 3, 4, 80]


def test_the_last_token_of_a_sequence_of_the_greatest_length_harms_nobody():
    state = make_state()
    full = admission(0, SamplingParams(), tokens=MAX_MODEL_LEN)
    plan = applied(state, full, admission(1, SamplingParams()))
    before = state.token_ids[1, :3].tolist()
    state.append(StepArrays.of(plan), torch.tensor([70, 80]))
    assert state.token_ids[1, :4].tolist() == [*before, 80]
