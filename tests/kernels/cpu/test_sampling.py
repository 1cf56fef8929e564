"""Tokens, penalties and log-probabilities against numpy in float64, for every instruction set and for the reference.

The oracle knows distributions; where rounding in float32 may move a border, either side of it is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from octavo.kernels import cpu, reference
from octavo.kernels.reference.sample_tokens import uniform_numbers
from octavo.kernels.sampling_rows import PenaltyRows, SamplingRows

Sample = Callable[[Tensor, SamplingRows], Tensor]
Params = tuple[float, int, float, float]

NUM_DRAWS = 20_000
TOLERANCE = 2e-5
# The instruction set stays the same for all examples of a test.
properties = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

params_of_rows = st.tuples(
    st.sampled_from([0.0, 0.3, 1.0, 2.5]),  # temperature
    st.sampled_from([0, 0, 1, 3, 40, 700, 100_000]),  # top_k
    st.sampled_from([1.0, 1.0, 0.95, 0.4, 1e-6, 0.99999]),  # top_p
    st.sampled_from([0.0, 0.0, 0.02, 0.6, 1.0]),  # min_p
)


def sampling_rows(params: list[Params], seeds: Tensor) -> SamplingRows:
    temperature, top_k, top_p, min_p = zip(*params, strict=True)
    random = [item for item in params if item[0] > 0]
    return SamplingRows(
        temperature=torch.tensor(temperature),
        top_k=torch.tensor(top_k),
        top_p=torch.tensor(top_p),
        min_p=torch.tensor(min_p),
        seeds=seeds,
        positions=torch.arange(len(params)),
        all_greedy=not random,
        max_top_k=max((item[1] for item in random), default=0),
        any_top_p=any(item[2] < 1 for item in random),
        any_min_p=any(item[3] > 0 for item in random),
    )


def probabilities(logits: NDArray[Any], params: Params, top_p: float | None = None) -> NDArray[np.float64]:
    """The distribution that a row is drawn from, in float64."""
    temperature, top_k, own_top_p, min_p = params
    top_p = own_top_p if top_p is None else top_p
    logits = logits.astype(np.float64)
    logits = np.where(np.isnan(logits), -np.inf, np.minimum(logits, np.finfo(np.float32).max))
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.exp((logits - logits.max()) / temperature)
    weights[weights < np.float32(np.float32(min_p) * (1 - 1e-7))] = 0
    ordered = np.sort(logits)[::-1]
    if 0 < top_k < len(logits):
        weights[logits < ordered[top_k - 1]] = 0
    if top_p < 1:
        descending = np.argsort(-logits, kind="stable")
        reached = np.cumsum(weights[descending]) >= top_p * weights.sum()
        weights[logits < logits[descending[reached.argmax()]]] = 0
    return np.asarray(weights / weights.sum())


def is_right(token: int, logits: NDArray[Any], params: Params, uniform: float) -> bool:
    """Whether the token is where the cumulative distribution passes the uniform number, up to rounding."""
    for top_p in {params[2], max(params[2] - TOLERANCE, 1e-9), min(params[2] + TOLERANCE, 1.0)}:
        expected = probabilities(logits, params, top_p)
        after = expected[: token + 1].sum()
        if expected[token] > 0 and after - expected[token] - TOLERANCE <= uniform <= after + TOLERANCE:
            return True
    return False


@st.composite
def logits_of_rows(draw: st.DrawFn) -> Tensor:
    """Rows with ties, with impossible tokens, flat and steep, of one block and of many."""
    num_rows, vocab_size = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 7, 255, 256, 257, 900, 5000]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(num_rows, vocab_size, generator=generator) * draw(st.sampled_from([0.0, 0.01, 1.0, 4.0, 30.0]))
    if draw(st.booleans()):
        logits = (logits * 2).round() / 2
    logits += draw(st.sampled_from([0.0, 1000.0, -1e6]))
    if draw(st.booleans()):
        logits[torch.rand(logits.shape, generator=generator) < 0.3] = -math.inf
    if draw(st.booleans()):
        logits[torch.rand(logits.shape, generator=generator) < 0.2] = math.nan
    if draw(st.booleans()):
        logits[:, draw(st.integers(0, vocab_size - 1))] = math.inf
    return logits


def check_samples(sample: Sample, logits: Tensor, params: list[Params], seed: int) -> None:
    params = params[: len(logits)]
    rows = sampling_rows(params, torch.full((len(logits),), seed))
    tokens = sample(logits.clone(), rows).tolist()
    uniform = uniform_numbers(rows.seeds, rows.positions).tolist()
    for row, token in enumerate(tokens):
        values = np.where(np.isnan(logits[row].numpy()), -np.inf, logits[row].numpy())
        if np.isneginf(values).all():
            assert token == 0
        elif params[row][0] == 0:
            assert token == int(np.argmax(values))
        else:
            assert is_right(token, logits[row].numpy(), params[row], uniform[row])


@properties
@given(logits=logits_of_rows(), params=st.lists(params_of_rows, min_size=4, max_size=4), seed=st.integers(0, 2**62))
def test_each_token_is_where_the_filtered_distribution_passes_the_uniform_number(
    isa: str, logits: Tensor, params: list[Params], seed: int
) -> None:
    check_samples(cpu.sample_tokens, logits, params, seed)


@properties
@given(logits=logits_of_rows(), params=st.lists(params_of_rows, min_size=4, max_size=4), seed=st.integers(0, 2**62))
def test_the_reference_means_the_same(logits: Tensor, params: list[Params], seed: int) -> None:
    check_samples(reference.sample_tokens, logits, params, seed)


FILTERS: list[Params] = [
    (1.0, 0, 1.0, 0.0),
    (0.6, 0, 1.0, 0.0),
    (1.0, 30, 1.0, 0.0),
    (1.0, 0, 0.9, 0.0),
    (1.0, 0, 1.0, 0.05),
    (1.5, 200, 0.8, 0.01),
]


@pytest.mark.parametrize("params", FILTERS, ids=str)
def test_draws_have_the_distribution_that_the_filters_give(isa: str, params: Params) -> None:
    logits = torch.randn(600, generator=torch.Generator().manual_seed(3)) * 2
    rows = replace(
        sampling_rows([params] * NUM_DRAWS, torch.arange(NUM_DRAWS)), positions=torch.zeros(NUM_DRAWS).long()
    )
    tokens = cpu.sample_tokens(logits.expand(NUM_DRAWS, -1), rows)
    expected = probabilities(logits.numpy(), params)
    counts = np.bincount(tokens.numpy(), minlength=600)
    assert not counts[expected == 0].any()
    common = expected * NUM_DRAWS >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum()) * NUM_DRAWS
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3


@pytest.mark.parametrize("params", [*FILTERS, (0.0, 0, 1.0, 0.0)], ids=str)
def test_a_token_depends_neither_on_threads_nor_on_other_rows(native: ModuleType, isa: str, params: Params) -> None:
    logits = torch.randn(9, 20_000, generator=torch.Generator().manual_seed(5)) * 3
    rows = sampling_rows([params] * 9, torch.arange(9))
    before = native.num_threads()
    found = []
    for num_threads in (1, 2, 3):
        native.set_num_threads(num_threads)
        found.append(cpu.sample_tokens(logits, rows).tolist())
        alone = sampling_rows([params], torch.tensor([4]))
        found[-1][4] = int(cpu.sample_tokens(logits[4:5], replace(alone, positions=torch.tensor([4]))))
    native.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@properties
@given(
    seed=st.integers(0, 2**31),
    num_rows=st.integers(1, 4),
    vocab_size=st.sampled_from([1, 5, 256, 300, 3000]),
    num_top=st.integers(0, 20),
    has_ties=st.booleans(),
)
def test_logprobs_are_those_of_float64(
    isa: str, seed: int, num_rows: int, vocab_size: int, num_top: int, has_ties: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_rows, vocab_size, generator=generator) * 3
    logits = logits.round() if has_ties else logits
    tokens = torch.randint(0, vocab_size, (num_rows,), generator=generator)
    num_top = min(num_top, vocab_size)
    logprobs, ids, ranks = cpu.top_logprobs(logits, tokens, num_top)
    expected = logits.double().log_softmax(dim=-1)
    order = np.argsort(-logits.numpy(), axis=-1, kind="stable")[:, :num_top]
    assert ids.tolist() == np.concatenate([tokens.numpy()[:, None], order], axis=1).tolist()
    torch.testing.assert_close(logprobs.double(), expected.gather(1, ids), rtol=0, atol=1e-5)
    given_logits = logits.gather(1, tokens[:, None])
    assert ranks.tolist() == ((logits > given_logits).sum(dim=-1) + 1).tolist()


@properties
@given(seed=st.integers(0, 2**31), num_rows=st.integers(1, 4), max_len=st.integers(1, 60), data=st.data())
def test_penalties_are_those_of_the_reference(
    native: ModuleType, seed: int, num_rows: int, max_len: int, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(seed)
    lens = torch.randint(1, max_len + 1, (num_rows,), generator=generator)
    penalties = PenaltyRows(
        rows=torch.randperm(num_rows + 2, generator=generator)[:num_rows],
        token_ids=torch.randint(0, 30, (num_rows, max_len), generator=generator, dtype=torch.int32),
        prompt_lens=(lens * torch.rand(num_rows, generator=generator)).long(),
        lens=lens,
        presence=torch.rand(num_rows, generator=generator) * 4 - 2,
        frequency=torch.rand(num_rows, generator=generator) * 4 - 2,
        repetition=torch.rand(num_rows, generator=generator) + data.draw(st.sampled_from([0.1, 1.0])),
    )
    logits = torch.randn(num_rows + 2, 30, generator=generator)
    expected, found = logits.clone(), logits.clone()
    reference.apply_penalties(expected, penalties)
    cpu.apply_penalties(found, penalties)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@properties
@given(seed=st.integers(0, 2**31), num_rows=st.integers(1, 4), vocab_size=st.integers(1, 200))
def test_a_bitmask_forbids_what_that_of_the_reference_does(
    native: ModuleType, seed: int, num_rows: int, vocab_size: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.standard_normal((num_rows + 2, vocab_size), dtype=np.float32))
    words = rng.integers(0, 2**32, (num_rows, -(-vocab_size // 32)), dtype=np.uint32)
    words[rng.random(words.shape) < 0.3] = 0
    words[rng.random(words.shape) < 0.3] = 2**32 - 1
    rows, bitmask = torch.from_numpy(rng.permutation(num_rows + 2)[:num_rows]), torch.from_numpy(words.view(np.int32))
    allowed = np.unpackbits(words.view(np.uint8), axis=1, count=vocab_size, bitorder="little").astype(bool)
    expected = logits.numpy().copy()
    expected[rows] = np.where(allowed, expected[rows], -np.inf)
    for apply_token_bitmask in (reference.apply_token_bitmask, cpu.apply_token_bitmask):
        found = logits.clone()
        apply_token_bitmask(found, rows, bitmask)
        np.testing.assert_array_equal(found.numpy(), expected)


def test_what_a_kernel_would_misread_is_refused(native: ModuleType) -> None:
    rows = sampling_rows([(1.0, 0, 1.0, 0.0)] * 2, torch.arange(2))
    logits = torch.zeros(2, 10)
    with pytest.raises(TypeError, match=r"torch\.float32 \[num_rows, vocab_size\]"):
        cpu.sample_tokens(logits.double(), rows)
    with pytest.raises(TypeError, match=r"torch\.int64 \[2\]"):
        cpu.sample_tokens(logits, replace(rows, seeds=torch.arange(4)[::2]))
    with pytest.raises(TypeError, match=r"torch\.float32 \[3\]"):
        cpu.sample_tokens(torch.zeros(3, 10), rows)
    with pytest.raises(TypeError, match=r"torch\.int32 \[2, 1\]"):
        cpu.apply_token_bitmask(logits, torch.arange(2), torch.zeros(2, 2, dtype=torch.int32))
    with pytest.raises(ValueError, match="num_top=11 of 10 tokens"):
        cpu.top_logprobs(logits, torch.zeros(2).long(), 11)
    assert cpu.sample_tokens(torch.zeros(10, 2).T, rows).shape == (2,)  # columns side by side are copied
