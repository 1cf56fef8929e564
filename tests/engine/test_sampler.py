"""The sampler against transformers' logits processors, plain Python arithmetic and statistics.

The random numbers have fixed seeds, so every test gives the same result each time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from octavo import SamplingParams
from octavo.engine.sampler import SamplingBatch, gather_logprobs, sample
from octavo.kernels import apply_penalties
from octavo.kernels.reference.sample_tokens import uniform_numbers
from octavo.kernels.sampling_rows import PenaltyRows, SamplingRows

NUM_DRAWS = 20_000
_WORD = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Row:
    """One row of logits and how to sample from it."""

    logits: Tensor
    params: SamplingParams
    seed: int = 0
    position: int = 0
    prompt: tuple[int, ...] = ()
    output: tuple[int, ...] = ()


def sample_rows(rows: list[Row]) -> list[int]:
    """Sample one token for each row, all in one batch."""
    params = [row.params for row in rows]
    random = [p for p in params if not p.is_greedy]
    penalized = [index for index, p in enumerate(params) if p.has_penalties]
    biased = [(index, *entry) for index, p in enumerate(params) for entry in (p.logit_bias or {}).items()]
    rows_of_batch = SamplingRows(
        temperature=torch.tensor([0.0 if p.is_greedy else p.temperature for p in params]),
        top_k=torch.tensor([p.top_k for p in params]),
        top_p=torch.tensor([p.top_p for p in params]),
        min_p=torch.tensor([p.min_p for p in params]),
        seeds=torch.tensor([row.seed for row in rows]),
        positions=torch.tensor([row.position for row in rows]),
        all_greedy=not random,
        max_top_k=max((p.top_k for p in random), default=0),
        any_top_p=any(p.top_p < 1 for p in random),
        any_min_p=any(p.min_p > 0 for p in random),
    )
    batch = SamplingBatch(
        rows_of_batch,
        penalties=penalties_of([rows[index] for index in penalized], penalized) if penalized else None,
        biases=([b[0] for b in biased], [b[1] for b in biased], [b[2] for b in biased]) if biased else None,
    )
    token_ids, logprobs = sample(torch.stack([row.logits for row in rows]).clone(), batch)
    assert logprobs is None
    return token_ids.tolist()


def penalties_of(rows: list[Row], indexes: list[int]) -> PenaltyRows:
    """Penalties of rows with their known tokens; the unused end of the token buffer holds garbage, as it may."""
    known = [row.prompt + row.output for row in rows]
    longest = max(map(len, known))
    return PenaltyRows(
        rows=torch.tensor(indexes),
        token_ids=torch.tensor([[*tokens, *[10**6] * (longest - len(tokens))] for tokens in known], dtype=torch.int32),
        prompt_lens=torch.tensor([len(row.prompt) for row in rows]),
        lens=torch.tensor([len(tokens) for tokens in known]),
        presence=torch.tensor([float(row.params.presence_penalty) for row in rows]),
        frequency=torch.tensor([float(row.params.frequency_penalty) for row in rows]),
        repetition=torch.tensor([float(row.params.repetition_penalty) for row in rows]),
    )


def draws(logits: Tensor, params: SamplingParams) -> np.ndarray[Any, Any]:
    """Sample ``NUM_DRAWS`` tokens from the same logits, with seeds 0, 1, 2, …"""
    return np.array(sample_rows([Row(logits, params, seed=seed) for seed in range(NUM_DRAWS)]))


def random_logits(vocab_size: int, seed: int = 0) -> Tensor:
    return torch.randn(vocab_size, generator=torch.Generator().manual_seed(seed)) * 2


def oracle_probabilities(logits: Tensor, params: SamplingParams) -> np.ndarray[Any, Any]:
    """The distribution to sample from, by transformers' warpers in float64, in the order that vLLM documents."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(params.temperature)])
    if params.min_p > 0:
        warpers.append(MinPLogitsWarper(params.min_p))
    if params.top_k > 0:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    scores = warpers(torch.zeros((1, 1), dtype=torch.int64), logits.double()[None])
    return np.asarray(scores.softmax(dim=-1)[0].numpy())


def python_mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _WORD
    return value ^ (value >> 31)


def python_uniform(seed: int, position: int) -> float:
    state = (python_mix(seed & _WORD) + (position + 1) * _GAMMA) & _WORD
    return (python_mix(state) >> 11) * 2.0**-53


def python_unmix(value: int) -> int:
    """The inverse of ``python_mix``."""

    def unshift(value: int, bits: int) -> int:
        result = value
        for _ in range(64 // bits + 1):
            result = value ^ (result >> bits)
        return result

    value = unshift(value, 31) * pow(0x94D049BB133111EB, -1, 1 << 64) & _WORD
    value = unshift(value, 27) * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & _WORD
    return unshift(value, 30)


def filter_names(params: SamplingParams) -> str:
    used = {name: getattr(params, name) for name in ("temperature", "top_k", "top_p", "min_p")}
    return ",".join(f"{name}={value}" for name, value in used.items())


FILTERS = [
    SamplingParams(),
    SamplingParams(temperature=0.6),
    SamplingParams(temperature=2.5, top_k=7),
    SamplingParams(top_p=0.8),
    SamplingParams(temperature=1.5, top_p=0.3),
    SamplingParams(min_p=0.1),
    SamplingParams(temperature=1.3, top_k=20, top_p=0.9, min_p=0.02),
    SamplingParams(top_k=1),
    SamplingParams(top_p=1e-6),
    SamplingParams(top_k=10_000),
]


@pytest.mark.parametrize("params", FILTERS, ids=filter_names)
def test_tokens_have_the_distribution_that_transformers_filters_give(params: SamplingParams):
    logits = random_logits(40)
    expected = oracle_probabilities(logits, params)
    tokens = draws(logits, params)
    counts = np.bincount(tokens, minlength=40)
    assert not counts[expected == 0].any(), "a token was sampled that the filters exclude"
    common = expected * NUM_DRAWS >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum()) * NUM_DRAWS
    if common.sum() > 1:
        observed, wanted = observed[wanted > 0], wanted[wanted > 0]
        assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3
    else:
        assert observed[0] == NUM_DRAWS


@pytest.mark.parametrize("params", FILTERS, ids=filter_names)
def test_each_token_is_where_the_cumulative_distribution_passes_the_uniform_number(params: SamplingParams):
    logits = random_logits(40, seed=1)
    cumulative = oracle_probabilities(logits, params).cumsum()
    uniform = np.array([python_uniform(seed, 0) for seed in range(NUM_DRAWS)])
    expected = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    assert (draws(logits, params) == expected).mean() > 0.9999  # float32 may fall on the other side of a border


@pytest.mark.parametrize("top_p", [0.5, 0.99])
def test_top_p_is_right_when_more_than_the_first_candidates_are_needed(top_p: float):
    logits = random_logits(3000) * 0.05  # nearly flat: the nucleus has thousands of tokens
    params = SamplingParams(top_p=top_p)
    expected = oracle_probabilities(logits, params)
    assert (expected > 0).sum() > 1024
    cumulative = expected.cumsum()
    uniform = np.array([python_uniform(seed, 0) for seed in range(500)])
    tokens = sample_rows([Row(logits, params, seed=seed) for seed in range(500)])
    # Where the nucleus ends is a matter of rounding in float32; one token more or less moves few draws.
    assert (np.array(tokens) == np.searchsorted(cumulative, uniform * cumulative[-1], side="right")).mean() > 0.99


def test_tokens_with_equal_logits_are_kept_or_dropped_together():
    logits = torch.tensor([0.0, 3.0, 3.0, 3.0, -1.0, 5.0])
    assert set(draws(logits, SamplingParams(top_k=2))) == {1, 2, 3, 5}
    assert set(draws(logits, SamplingParams(top_p=0.8))) == {1, 2, 3, 5}


def test_greedy_rows_take_the_most_likely_token_beside_random_rows():
    logits = random_logits(100)
    greedy = Row(logits, SamplingParams(temperature=0, top_k=50, top_p=0.1, min_p=0.9))
    random = [Row(logits, SamplingParams(top_k=3), seed=seed) for seed in range(20)]
    assert sample_rows([greedy, *random])[0] == int(logits.argmax())
    assert sample_rows([greedy, greedy]) == [int(logits.argmax())] * 2


def test_tokens_that_are_ruled_out_are_never_sampled():
    logits = torch.full((10,), -math.inf)
    logits[[3, 9]] = 0.0
    assert set(draws(logits, SamplingParams())) == {3, 9}
    assert set(draws(logits, SamplingParams(top_k=5, top_p=0.99, min_p=0.5))) == {3, 9}


# --- Random numbers -------------------------------------------------------------------------------------------------


def test_uniform_numbers_are_those_of_splitmix64():
    """The first outputs of the reference implementation for the seed 1234567, as published on Rosetta Code."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    seed = python_unmix(1234567)  # the sequence of a request starts at the mix of its seed
    assert python_mix(seed) == 1234567
    seeds = torch.full((5,), seed - (1 << 64) if seed >= 1 << 63 else seed)
    uniform = uniform_numbers(seeds, torch.arange(5))
    assert uniform.tolist() == [(value >> 11) * 2.0**-53 for value in known]


def test_the_first_token_of_seed_zero_is_not_always_the_first_of_the_vocabulary():
    logits = torch.zeros(1000)
    logits[500] = 12.0  # more than 99 %
    assert sample_rows([Row(logits, SamplingParams(), seed=0, position=0)]) == [500]


@given(seed=st.integers(-(2**63), 2**63 - 1), position=st.integers(0, 2**20))
def test_uniform_numbers_are_exact_for_every_seed_and_position(seed: int, position: int):
    (uniform,) = uniform_numbers(torch.tensor([seed]), torch.tensor([position])).tolist()
    assert uniform == python_uniform(seed, position)
    assert 0 <= uniform < 1


@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_the_positions_of_a_request_have_uniform_and_unrelated_numbers(seed: int):
    uniform = uniform_numbers(torch.full((NUM_DRAWS,), seed), torch.arange(NUM_DRAWS)).numpy()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]) < 4 / math.sqrt(NUM_DRAWS)


def test_consecutive_seeds_have_uniform_and_unrelated_numbers():
    seeds = torch.arange(NUM_DRAWS)
    uniform = uniform_numbers(seeds, torch.full_like(seeds, 3)).numpy()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]) < 4 / math.sqrt(NUM_DRAWS)
    other_position = uniform_numbers(seeds, torch.full_like(seeds, 4)).numpy()
    assert abs(np.corrcoef(uniform, other_position)[0, 1]) < 4 / math.sqrt(NUM_DRAWS)


@st.composite
def sampled_rows(draw: st.DrawFn) -> Row:
    params = SamplingParams(
        temperature=draw(st.sampled_from([0.0, 0.3, 1.0, 3.0])),
        top_k=draw(st.sampled_from([0, 1, 5, 2000])),
        top_p=draw(st.sampled_from([1.0, 0.9, 0.2, 0.999])),
        min_p=draw(st.sampled_from([0.0, 0.05, 1.0])),
        presence_penalty=draw(st.sampled_from([0.0, 1.5])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
        logit_bias=draw(st.sampled_from([None, {3: 5.0, 7: -100.0}])),
    )
    known = tuple(draw(st.lists(st.integers(0, 1499), min_size=2, max_size=6)))
    flatness = draw(st.sampled_from([1.0, 0.02]))
    return Row(
        random_logits(1500, seed=draw(st.integers(0, 9))) * flatness,
        params,
        seed=draw(st.integers(-(2**63), 2**63 - 1)),
        position=draw(st.integers(0, 1000)),
        prompt=known[:1],
        output=known[1:],
    )


@settings(max_examples=60, deadline=None)
@given(row=sampled_rows(), others=st.lists(sampled_rows(), max_size=6), place=st.integers(0, 6))
def test_the_same_seed_gives_the_same_token_whatever_rows_are_beside_it(row: Row, others: list[Row], place: int):
    place = min(place, len(others))
    together = sample_rows([*others[:place], row, *others[place:]])
    assert together[place] == sample_rows([row])[0]


# --- Penalties and biases -------------------------------------------------------------------------------------------


def naive_penalties(row: Row) -> list[float]:
    """Penalties as OpenAI and CTRL define them, one token at a time."""
    params = row.params
    logits = row.logits.double().tolist()
    for token_id, logit in enumerate(logits):
        if token_id in row.prompt + row.output:
            logit = logit / params.repetition_penalty if logit > 0 else logit * params.repetition_penalty
        count = row.output.count(token_id)
        logits[token_id] = logit - params.frequency_penalty * count - params.presence_penalty * (count > 0)
    return logits


PENALIZED = [
    SamplingParams(presence_penalty=1.5),
    SamplingParams(frequency_penalty=-0.7),
    SamplingParams(repetition_penalty=1.8),
    SamplingParams(repetition_penalty=0.4, frequency_penalty=2, presence_penalty=-2),
]


def test_penalties_equal_a_naive_loop_and_leave_other_rows_alone():
    logits = torch.stack([random_logits(30, seed) for seed in range(6)])
    known = [((0, 0, 5), (5, 5, 29)), ((7,), ()), ((1, 2), (2, 2, 2, 2)), ((29,), (0,))]
    rows = [Row(logits[i + 1], PENALIZED[i], prompt=known[i][0], output=known[i][1]) for i in range(4)]
    changed = logits.clone()
    apply_penalties(changed, penalties_of(rows, [1, 2, 3, 4]))
    torch.testing.assert_close(changed[[0, 5]], logits[[0, 5]], rtol=0, atol=0)
    expected = torch.tensor([naive_penalties(row) for row in rows])
    torch.testing.assert_close(changed[1:5], expected, rtol=1e-5, atol=1e-5)


def test_the_repetition_penalty_is_that_of_transformers():
    logits = random_logits(30)
    row = Row(logits, SamplingParams(repetition_penalty=1.7), prompt=(1, 2, 3), output=(3, 4))
    changed = logits[None].clone()
    apply_penalties(changed, penalties_of([row], [0]))
    expected = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([[1, 2, 3, 3, 4]]), logits[None].clone())
    torch.testing.assert_close(changed, expected)


def test_penalties_change_what_is_sampled():
    logits = torch.tensor([1.0, 0.5, 0.0])
    row = Row(logits, SamplingParams(temperature=0, presence_penalty=0.6), prompt=(1,), output=(0,))
    assert sample_rows([row, Row(logits, SamplingParams(temperature=0))]) == [1, 0]


def test_a_logit_bias_is_added_before_sampling():
    logits = random_logits(50)
    forced = Row(logits, SamplingParams(logit_bias={11: 100.0}))
    forbidden = Row(logits, SamplingParams(temperature=0, logit_bias={int(logits.argmax()): -100.0}))
    second = int(logits.topk(2).indices[1])
    assert sample_rows([Row(logits, SamplingParams(temperature=0)), forced, forbidden])[1:] == [11, second]


def test_a_whole_number_as_bias_counts_as_a_number():
    assert sample_rows([Row(torch.zeros(5), SamplingParams(temperature=0, logit_bias={3: 2}))]) == [3]


# --- Log-probabilities ----------------------------------------------------------------------------------------------


def test_logprobs_are_those_of_the_model_with_the_sampled_token_first():
    logits = torch.stack([random_logits(60, seed) for seed in range(4)])
    token_ids = torch.tensor([int(logits[0].argmax()), 17, 3, 59])
    found = gather_logprobs(logits, token_ids, [3, None, 20, 0])
    expected = logits.double().log_softmax(dim=-1)
    assert found[1] is None
    for row, count in ((0, 3), (2, 20), (3, 0)):
        entry = found[row]
        assert entry is not None
        sampled = int(token_ids[row])
        top = expected[row].topk(count)
        assert entry.token_ids == [sampled, *top.indices.tolist()]
        assert entry.logprobs == pytest.approx([expected[row, sampled].item(), *top.values.tolist()], abs=1e-5)
        assert entry.rank == 1 + int((expected[row] > expected[row, sampled]).sum())


def test_more_logprobs_than_there_are_tokens_give_all_tokens():
    (entry,) = gather_logprobs(torch.zeros(1, 5), torch.tensor([2]), [20])
    assert entry is not None
    assert len(entry.token_ids) == 6
    assert entry.logprobs == pytest.approx([-math.log(5)] * 6)


def test_logprobs_are_taken_before_bias_penalties_and_temperature():
    logits = random_logits(40)
    rows = SamplingRows(
        temperature=torch.tensor([0.2]),
        top_k=torch.tensor([2]),
        top_p=torch.tensor([1.0]),
        min_p=torch.tensor([0.0]),
        seeds=torch.tensor([1]),
        positions=torch.tensor([0]),
        all_greedy=False,
        max_top_k=2,
        any_top_p=False,
        any_min_p=False,
    )
    batch = SamplingBatch(
        rows,
        penalties=penalties_of([Row(logits, SamplingParams(frequency_penalty=2), prompt=(1,), output=(2,))], [0]),
        biases=([0], [8], [100.0]),
        num_logprobs=[4],
    )
    token_ids, found = sample(logits[None].clone(), batch)
    assert token_ids.tolist() == [8]
    assert found is not None
    assert found[0] is not None
    expected = logits.log_softmax(dim=-1)
    assert found[0].token_ids[1:] == expected.topk(4).indices.tolist()
    assert found[0].logprobs[0] == pytest.approx(expected[8].item(), abs=1e-6)
