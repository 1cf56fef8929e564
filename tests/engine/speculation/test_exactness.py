"""Tokens and log-probabilities with drafts are those without, bit by bit, whatever the drafts are."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import LLM, SamplingParams, StructuredOutputsParams
from octavo.engine.outputs import RequestOutput
from octavo.engine.speculation import draft_model
from octavo.engine.speculation.pacing import Pacer
from octavo.engine.speculation.speculator import SpeculationCounts, Speculator
from octavo.engine.thinking import ThinkingBudget
from octavo.kernels import cpu
from tests.checkpoints import make_checkpoint
from tests.engine.speculation.made_drafts import ScriptedProposer, engine, what_was_said

pytestmark = pytest.mark.skipif(not cpu.has_native(), reason="no native kernels: bits depend on the chunk")

NUM_TOKENS = 40
VOCAB_SIZE = 320
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 20},
    "qwen2": {},
    "qwen3": {"tie_word_embeddings": True},
}
PROMPTS = [
    {"prompt_token_ids": [random.Random(length).randrange(5, 300) for _ in range(length)]} for length in (1, 9, 30, 70)
]
PARAMS = [
    SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True, logprobs=3),
    SamplingParams(temperature=1, seed=1, top_p=0.9, max_tokens=NUM_TOKENS, ignore_eos=True, logprobs=0),
    SamplingParams(
        temperature=0,
        max_tokens=NUM_TOKENS,
        repetition_penalty=1.3,
        frequency_penalty=0.5,
        presence_penalty=0.5,
        logit_bias={7: 3.0},
        ignore_eos=True,
    ),
    SamplingParams(temperature=0, max_tokens=NUM_TOKENS, min_tokens=12, stop_token_ids=list(range(150)), logprobs=1),
    SamplingParams(temperature=0.5, seed=7, max_tokens=NUM_TOKENS, bad_words=["e", "ta"], ignore_eos=True),
    SamplingParams(temperature=0, max_tokens=NUM_TOKENS, allowed_token_ids=list(range(20, 26)), prompt_logprobs=0),
    SamplingParams(temperature=0, max_tokens=NUM_TOKENS, stop=["a", "Z", "in"], ignore_eos=True),
    SamplingParams(temperature=0.8, seed=3, n=2, max_tokens=NUM_TOKENS, ignore_eos=True),
]
WORKLOAD = [(prompt, params) for prompt in PROMPTS for params in PARAMS]


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / request.param
    return make_checkpoint(directory, request.param, tokenizer=True, num_hidden_layers=2, **FAMILIES[request.param])


def generate(llm: LLM) -> list[RequestOutput]:
    prompts, params = zip(*WORKLOAD, strict=True)
    return llm.generate(list(prompts), list(params), use_tqdm=False)


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> list[list[tuple[Any, ...]]]:
    return what_was_said(generate(engine(checkpoint)))


def half_right(expected: list[list[tuple[Any, ...]]]) -> Callable[[list[int], int], list[int]]:
    """A guess that knows what will be said, and is wrong in places."""
    continuations = {}
    for (prompt, _), answers in zip(WORKLOAD, expected, strict=True):
        for tokens, *_ in answers:
            whole = prompt["prompt_token_ids"] + tokens
            for length in range(len(prompt["prompt_token_ids"]), len(whole)):
                continuations[tuple(whole[:length])] = whole[length:]

    def guess(known: list[int], max_len: int) -> list[int]:
        draft = [*continuations.get(tuple(known), []), 11, 12, 13][:max_len]
        if len(known) % 3 == 0 and draft:
            draft[len(known) % len(draft)] = 17
        return draft

    return guess


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_num_batched_tokens": 16},
        {"enable_prefix_caching": False, "block_size": 4},
        {"max_num_seqs": 3, "kv_cache_dtype": "int8"},
    ],
    ids=["plain", "chunked", "small blocks", "int8 cache"],
)
def test_drafts_that_are_half_right(
    checkpoint: Path, expected: list[list[tuple[Any, ...]]], settings: dict[str, Any]
) -> None:
    if "kv_cache_dtype" in settings:
        expected = what_was_said(generate(engine(checkpoint, kv_cache_dtype="int8")))
    llm = engine(checkpoint, **settings)
    speculator = Speculator(ScriptedProposer(half_right(expected)), num_tokens=6)
    llm._core.scheduler.speculator = speculator
    assert what_was_said(generate(llm)) == expected
    assert 0.3 < speculator.counts.num_accepted_tokens / speculator.counts.num_draft_tokens < 0.9
    assert llm._core.stats().num_used_blocks == 0


def test_drafts_under_preemption(checkpoint: Path, expected: list[list[tuple[Any, ...]]]) -> None:
    llm = engine(checkpoint)
    pool = llm._core.scheduler.kv_cache.pool
    held = [pool.allocate() for _ in range(pool.num_blocks - 128 // 16 - 2)]
    llm._core.scheduler.speculator = Speculator(ScriptedProposer(half_right(expected)), num_tokens=6)
    assert what_was_said(generate(llm)) == expected
    assert llm._core.stats().total_preemptions > 0
    assert pool.num_used == len(held)


def test_structured_output_and_thinking_budgets_beside_drafts(checkpoint: Path) -> None:
    thinking = ThinkingBudget(num_tokens=6, begin_token_ids=[50], end_token_ids=[51, 52], is_open=True)
    params = [
        SamplingParams(temperature=0, max_tokens=30, structured_outputs=StructuredOutputsParams(regex="[ab]{20}c+")),
        SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, thinking=thinking),
        SamplingParams(temperature=1, seed=2, max_tokens=30, ignore_eos=True),
    ]
    plain, drafting = engine(checkpoint), engine(checkpoint)
    expected = plain.generate(PROMPTS[:3], params, use_tqdm=False)
    answers = {
        tuple(output.prompt_token_ids): [*output.prompt_token_ids, *output.outputs[0].token_ids] for output in expected
    }

    def guess(known: list[int], max_len: int) -> list[int]:
        (whole,) = (whole for prompt, whole in answers.items() if known[: len(prompt)] == list(prompt))
        draft = whole[len(known) : len(known) + max_len]
        return [*draft[:-1], 51] if len(known) % 2 and draft else draft

    drafting._core.scheduler.speculator = Speculator(ScriptedProposer(guess), num_tokens=4)
    assert what_was_said(drafting.generate(PROMPTS[:3], params, use_tqdm=False)) == what_was_said(expected)
    assert counts(drafting).num_accepted_tokens > 10


@pytest.mark.parametrize("method", ["ngram", "suffix"])
def test_drafts_from_texts(checkpoint: Path, expected: list[list[tuple[Any, ...]]], method: str) -> None:
    bounds = {"prompt_lookup_min": 1} if method == "ngram" else {}
    llm = engine(checkpoint, speculative_config={"method": method, **bounds})
    without_pacing(llm)
    assert what_was_said(generate(llm)) == expected
    first = counts(llm).num_accepted_tokens
    assert first > 0
    assert what_was_said(generate(llm)) == expected
    again = counts(llm).num_accepted_tokens - first
    assert again > 2 * first if method == "suffix" else again == first


def test_drafts_by_the_model_itself_are_nearly_all_right(
    checkpoint: Path, expected: list[list[tuple[Any, ...]]]
) -> None:
    llm = engine(checkpoint, speculative_config={"model": str(checkpoint), "num_speculative_tokens": 4})
    without_pacing(llm)
    assert what_was_said(generate(llm)) == expected
    plain = SamplingParams(temperature=1, top_k=50, seed=5, max_tokens=NUM_TOKENS, ignore_eos=True)
    before = copy(counts(llm))
    llm.generate(PROMPTS, plain, use_tqdm=False)
    llm.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True), use_tqdm=False)
    after = counts(llm)
    assert after.num_accepted_tokens - before.num_accepted_tokens == after.num_draft_tokens - before.num_draft_tokens


def test_a_draft_model_that_catches_up_in_several_steps_guesses_as_well(
    checkpoint: Path, expected: list[list[tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_model, "_MAX_CATCH_UP_TOKENS", 20)
    llm = engine(checkpoint, speculative_config={"model": str(checkpoint), "num_speculative_tokens": 4})
    without_pacing(llm)
    assert what_was_said(generate(llm)) == expected
    before = copy(counts(llm))
    llm.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True), use_tqdm=False)
    after = counts(llm)
    num_accepted = after.num_accepted_tokens - before.num_accepted_tokens
    assert num_accepted == after.num_draft_tokens - before.num_draft_tokens > 0


@torch.inference_mode()
def test_a_draft_model_computes_nothing_of_answers_without_drafts(checkpoint: Path) -> None:
    llm = engine(checkpoint, speculative_config={"model": str(checkpoint)})
    without_pacing(llm)
    keys = [cache.key.fill_(0) for cache in llm._core.runner.drafts._kv_caches]
    llm.generate(PROMPTS[1:], SamplingParams(temperature=0, max_tokens=2, ignore_eos=True), use_tqdm=False)
    assert counts(llm).num_drafts == 0
    assert not any(map(torch.any, keys))


def test_drafts_by_another_model(
    checkpoint: Path, expected: list[list[tuple[Any, ...]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    smaller = make_checkpoint(tmp_path_factory.mktemp("draft") / "model", "llama", num_hidden_layers=1, head_dim=8)
    llm = engine(
        checkpoint,
        speculative_config={"method": "draft_model", "model": str(smaller), "num_speculative_tokens": 3},
        max_num_batched_tokens=16,
    )
    without_pacing(llm)
    assert what_was_said(generate(llm)) == expected
    assert counts(llm).num_drafts > 0
    assert llm._core.stats().num_used_blocks == 0


def without_pacing(llm: LLM) -> None:
    """Let all drafts be as long as they may be: on a busy machine, what steps cost is another matter each time."""
    llm._core.scheduler.speculator._pacer = Pacer()


def counts(llm: LLM) -> SpeculationCounts:
    return llm._core.scheduler.speculator.counts
