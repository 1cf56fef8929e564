"""Drafts beside grammars: the same tokens and log-probabilities as without, and no token for nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, SamplingParams, StructuredOutputsParams
from octavo.engine.outputs import RequestOutput
from octavo.engine.speculation.pacing import Pacer
from octavo.engine.speculation.speculator import Speculator
from octavo.engine.thinking import ThinkingBudget
from octavo.errors import RequestError
from octavo.kernels import cpu
from octavo.text import Tokenizer
from tests.engine.speculation.made_drafts import ScriptedProposer, engine, what_was_said
from tests.engine.structured.made_schemas import make_schema

pytestmark = pytest.mark.skipif(not cpu.has_native(), reason="no native kernels: bits depend on the chunk")

RECORD = {
    "type": "object",
    "properties": {
        "identifier": {"type": "integer", "maximum": 9999},
        "description": {"type": "string", "maxLength": 20},
        "is_new": {"type": "boolean"},
    },
    "required": ["identifier", "description", "is_new"],
    "additionalProperties": False,
}
TAG = {"begin": "e", "schema": {"type": "integer", "minimum": 100, "maximum": 999}, "end": ";"}
AFTER_THOUGHT = r"""start: thought answer
thought[lazy]: /(?s:.*)z/
answer: %json {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}
"""

Request = tuple[dict[str, list[int]], SamplingParams]


def make_forms(rng: random.Random) -> list[StructuredOutputsParams | None]:
    return [
        StructuredOutputsParams(json=RECORD),
        StructuredOutputsParams(json=make_schema(rng.randrange(1000)), disable_any_whitespace=True),
        StructuredOutputsParams(regex="[ab]{2,9} is the answer; [cd]+ is not"),
        StructuredOutputsParams(choice=["yes, of course", "yes, perhaps", "no"]),
        StructuredOutputsParams(structural_tag={"structures": [TAG], "triggers": ["e"]}),
        StructuredOutputsParams(grammar=AFTER_THOUGHT),
        None,
    ]


def make_workload(seed: int, tokenizer: Tokenizer, num_requests: int = 40) -> list[Request]:
    """Requests with forms and without, of all kinds of parameters."""
    rng = random.Random(seed)
    (end_of_thought,) = tokenizer.encode("z")
    extras: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 0, "logprobs": 2},
        {"temperature": 1.0, "top_p": 0.9, "logprobs": 0},
        {"temperature": 0.7, "top_k": 20, "min_p": 0.01},
        {"temperature": 1.0, "min_tokens": 12},
        {"temperature": 1.0, "min_tokens": 25, "logprobs": 1},
        {"temperature": 1.0, "stop": ["a", "is the", '"de']},
        {"temperature": 1.0, "stop_token_ids": tokenizer.encode(",;b"), "min_tokens": 4},
        {"temperature": 0, "repetition_penalty": 1.3, "frequency_penalty": 0.5, "logit_bias": {7: 3.0}},
        {"temperature": 1.0, "bad_words": ["e", "is", "no"]},
        {"temperature": 1.0, "n": 2},
        {
            "temperature": 1.0,
            "thinking": ThinkingBudget(
                num_tokens=6, begin_token_ids=[50], end_token_ids=[end_of_thought], is_open=True
            ),
        },
    ]
    prompts = [{"prompt_token_ids": [rng.randrange(5, 300) for _ in range(length)]} for length in (1, 7, 20, 50)]
    workload = []
    for index in range(num_requests):
        extra = extras[index % len(extras)]
        form = rng.choice(make_forms(rng))
        if "thinking" in extra:
            form = StructuredOutputsParams(grammar=AFTER_THOUGHT)
        params = SamplingParams(max_tokens=rng.choice([25, 40, 60]), seed=index, structured_outputs=form, **extra)
        workload.append((rng.choice(prompts), params))
    return workload


def generate(llm: LLM, workload: Sequence[Request]) -> list[RequestOutput]:
    prompts, params = zip(*workload, strict=True)
    return llm.generate(list(prompts), list(params), use_tqdm=False)


@pytest.fixture(scope="module")
def plain(checkpoint: Path) -> LLM:
    return engine(checkpoint)


def half_right(outputs: list[RequestOutput]) -> Callable[[list[int], int], list[int]]:
    """A guess that knows what will be said, and is wrong in places."""
    continuations: dict[tuple[int, ...], list[int]] = {}
    for output in outputs:
        for answer in output.outputs:
            whole = [*output.prompt_token_ids, *answer.token_ids]
            for length in range(len(output.prompt_token_ids), len(whole)):
                continuations[tuple(whole[:length])] = whole[length:]

    def guess(known: list[int], max_len: int) -> list[int]:
        draft = [*continuations.get(tuple(known), []), 11, 12, 13][:max_len]
        if len(known) % 3 == 0:
            draft[len(known) % len(draft)] = 40 + len(known) % 50
        return draft

    return guess


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_num_batched_tokens": 16, "max_num_seqs": 5},
        {"enable_prefix_caching": False, "block_size": 4},
        {"kv_cache_memory_bytes": 72 * 1024, "block_size": 4, "max_num_seqs": 16},
    ],
    ids=["plain", "chunked", "small blocks", "preemption"],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_outputs_with_forms_are_the_same_with_drafts_that_are_half_right(
    checkpoint: Path, tokenizer: Tokenizer, plain: LLM, settings: dict[str, Any], seed: int
) -> None:
    workload = make_workload(seed, tokenizer)
    expected = generate(plain, workload)
    llm = engine(checkpoint, **settings)
    speculator = Speculator(ScriptedProposer(half_right(expected)), num_tokens=6)
    llm._core.scheduler.speculator = speculator
    assert what_was_said(generate(llm, workload)) == what_was_said(expected)
    assert speculator.counts.num_accepted_tokens > 100
    stats = llm._core.stats()
    assert stats.num_used_blocks == 0
    if "kv_cache_memory_bytes" in settings:
        assert stats.total_preemptions > 0


@pytest.mark.parametrize("method", ["ngram", "suffix", "draft_model"])
def test_every_method_drafts_for_forms(checkpoint: Path, tokenizer: Tokenizer, plain: LLM, method: str) -> None:
    workload = make_workload(3, tokenizer)
    more = {"ngram": {"prompt_lookup_min": 1}, "draft_model": {"model": str(checkpoint)}}.get(method, {})
    llm = engine(checkpoint, speculative_config={"method": method, **more})
    llm._core.scheduler.speculator._pacer = Pacer()  # on a busy machine, what steps cost is another matter each time
    expected = what_was_said(generate(plain, workload))
    assert what_was_said(generate(llm, workload)) == expected
    assert what_was_said(generate(llm, workload)) == expected
    assert llm._core.stats().total_accepted_tokens > 30


def test_drafts_by_the_model_itself_keep_to_the_form(checkpoint: Path, plain: LLM) -> None:
    """Behind forced tokens, too: what is drafted is what is sampled, up to the end of each answer."""
    params = [
        SamplingParams(temperature=1, seed=seed, max_tokens=80, structured_outputs=StructuredOutputsParams(json=RECORD))
        for seed in range(6)
    ]
    workload = [({"prompt_token_ids": [5, 6, 7]}, one) for one in params]
    llm = engine(checkpoint, speculative_config={"model": str(checkpoint), "num_speculative_tokens": 4})
    speculator = llm._core.scheduler.speculator
    speculator._pacer = Pacer()
    assert what_was_said(generate(llm, workload)) == what_was_said(generate(plain, workload))
    counts = speculator.counts
    assert counts.num_draft_tokens - counts.num_accepted_tokens < 4 * len(workload)
    assert counts.num_accepted_tokens > 50
    assert llm._core.stats().total_steps < plain._core.stats().total_steps / 2


def test_a_draft_ends_before_what_the_form_forbids(checkpoint: Path, tokenizer: Tokenizer) -> None:
    llm = engine(checkpoint)
    a, b, c = (tokenizer.encode(char)[0] for char in "abc")
    speculator = Speculator(ScriptedProposer(lambda _, __: [a, b, c, a]), num_tokens=4)
    llm._core.scheduler.speculator = speculator
    params = SamplingParams(max_tokens=12, seed=1, structured_outputs=StructuredOutputsParams(regex="[ab]{20}"))
    generate(llm, [({"prompt_token_ids": [5]}, params)])
    counts = speculator.counts
    assert counts.num_drafts > 2
    assert 2 * counts.num_drafts - 2 < counts.num_draft_tokens <= 2 * counts.num_drafts  # the last one may be shorter


def test_a_form_that_becomes_too_complex_ends_its_own_request_alone(
    checkpoint: Path, plain: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(checkpoint, speculative_config={"model": str(checkpoint)})
    llm._core.scheduler.speculator._pacer = Pacer()
    fine = SamplingParams(max_tokens=40, seed=1, structured_outputs=StructuredOutputsParams(json=RECORD))
    expected = what_was_said(generate(plain, [({"prompt_token_ids": [5]}, fine)]))
    monkeypatch.setattr("octavo.engine.structured.limits._MAX_LEXER_STATES", 300)
    complex_form = StructuredOutputsParams(regex="(.*[ab].{100}){50}")
    with pytest.raises(RequestError, match="cannot be held to this form"):
        generate(llm, [({"prompt_token_ids": [6]}, SamplingParams(max_tokens=100, structured_outputs=complex_form))])
    assert what_was_said(generate(llm, [({"prompt_token_ids": [5]}, fine)])) == expected
    assert llm._core.stats().num_used_blocks == 0
