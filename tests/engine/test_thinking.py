"""A thinking budget forces the tokens that end the thinking, once, and changes nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo import LLM, SamplingParams
from octavo.engine.thinking import ThinkingBudget, forced_token

BEGIN, END = [90], [91, 92, 91]


def budget(num_tokens: int, *, is_open: bool = True) -> ThinkingBudget:
    return ThinkingBudget(num_tokens=num_tokens, begin_token_ids=BEGIN, end_token_ids=END, is_open=is_open)


def finished(bound: ThinkingBudget, sampled: list[int]) -> list[int]:
    """Generate as an engine does, with a model that would sample ``sampled``."""
    output: list[int] = []
    goes_on = True
    for token in sampled:
        forced, goes_on = forced_token(bound, output) if goes_on else (None, False)
        output.append(token if forced is None else forced)
    return output


@given(sampled=st.lists(st.integers(0, 80), min_size=20, max_size=20), num_tokens=st.integers(0, 12))
def test_after_the_budget_come_the_tokens_that_end_it_and_then_what_the_model_wants(
    sampled: list[int], num_tokens: int
) -> None:
    expected = [*sampled[:num_tokens], *END, *sampled[num_tokens + len(END) :]]
    assert finished(budget(num_tokens), sampled) == expected
    expected = [*BEGIN, *sampled[:num_tokens], *END, *sampled[num_tokens + len(END) :]]
    assert finished(budget(num_tokens, is_open=False), [*BEGIN, *sampled]) == expected


@pytest.mark.parametrize("is_open", [True, False])
def test_thinking_that_ends_by_itself_is_left_alone(is_open: bool) -> None:
    sampled = [*([] if is_open else BEGIN), 1, 2, *END, *range(3, 30)]
    assert finished(budget(10, is_open=is_open), sampled) == sampled


def test_an_end_that_the_model_has_begun_is_completed() -> None:
    assert finished(budget(3), [1, 2, 91, 5, 6, 7]) == [1, 2, 91, 92, 91, 7]


def test_an_answer_without_thinking_is_left_alone() -> None:
    assert finished(budget(0, is_open=False), list(range(30))) == list(range(30))


@pytest.fixture(scope="module")
def llm(checkpoint: Path) -> LLM:
    return LLM(str(checkpoint), kv_cache_memory_bytes=2**22, cpu_threads=1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_engine_forces_the_end_of_thinking(llm: LLM, temperature: float) -> None:
    def tokens(bound: ThinkingBudget | None, **fields: object) -> list[int]:
        params = SamplingParams(
            temperature=temperature, seed=3, max_tokens=24, ignore_eos=True, thinking=bound, **fields
        )
        (output,) = llm.generate("Hello", params, use_tqdm=False)
        return output.outputs[0].token_ids

    free = tokens(None)
    for fields in ({}, {"repetition_penalty": 1.3}, {"top_k": 2}, {"min_p": 0.3, "top_p": 0.5}):
        free = tokens(None, **fields)
        bound = tokens(budget(6), **fields)
        assert bound[:6] == free[:6]
        assert bound[6:9] == END
        assert len(bound) == 24
    assert tokens(budget(100)) == tokens(None)


def test_a_budget_holds_in_a_batch_for_its_own_request_only(llm: LLM) -> None:
    params = [
        SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, thinking=bound)
        for bound in (None, budget(2), budget(4), None)
    ]
    outputs = [out.outputs[0].token_ids for out in llm.generate(["Hello"] * 4, params, use_tqdm=False)]
    assert outputs[0] == outputs[3]
    assert outputs[1][2:5] == outputs[2][4:7] == END
    assert outputs[1][:2] == outputs[2][:2] == outputs[0][:2]
