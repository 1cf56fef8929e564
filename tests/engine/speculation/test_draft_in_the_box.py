"""The draft of the model in the box guesses well, and changes nothing."""

from __future__ import annotations

import pytest

from octavo import LLM, SamplingParams
from octavo.engine.speculation.pacing import Pacer
from octavo.kernels import cpu
from tools.train_nano.conversations import SKILLS
from tools.train_nano.evaluate import questions

pytestmark = pytest.mark.skipif(not cpu.has_native(), reason="no native kernels: bits depend on the chunk")

QUESTIONS = questions(SKILLS, 2, seed=11)
GREEDY = SamplingParams(temperature=0, max_tokens=60, logprobs=0)
SAMPLED = SamplingParams(temperature=1, seed=5, max_tokens=60, logprobs=0)
LEAST_ACCEPTED = 0.5


def engine(**settings: object) -> LLM:
    return LLM("octavo-nano", max_model_len=2048, kv_cache_memory_bytes="64MiB", **settings)


@pytest.fixture(scope="module")
def drafting() -> LLM:
    """An engine whose drafts are always as long as they may be."""
    llm = engine(speculative_config={"method": "draft_model", "num_speculative_tokens": 4})
    llm._core.scheduler.speculator._pacer = Pacer()
    return llm


def answers(llm: LLM, params: SamplingParams) -> list[tuple[list[int], float]]:
    """Tokens and log-probabilities of an answer to each question, the questions with tools one at a time."""
    said = []
    for one in QUESTIONS:
        (output,) = llm.chat(one.prompt, params, tools=one.tools or None, use_tqdm=False)
        said.append((list(output.outputs[0].token_ids), output.outputs[0].cumulative_logprob))
    return said


def test_the_greedy_answers_are_the_same_and_most_guesses_are_right(drafting: LLM) -> None:
    assert answers(drafting, GREEDY) == answers(engine(), GREEDY)
    stats = drafting._core.stats()
    assert stats.total_accepted_tokens / stats.total_draft_tokens > LEAST_ACCEPTED


def test_sampled_answers_of_a_batch_are_the_same(drafting: LLM) -> None:
    chats = [one.prompt for one in QUESTIONS if not one.tools]
    with_drafts, without = (
        [list(output.outputs[0].token_ids) for output in llm.chat(chats, SAMPLED, use_tqdm=False)]
        for llm in (drafting, engine())
    )
    assert with_drafts == without


def test_whole_drafts_are_recorded(drafting: LLM) -> None:
    answers(drafting, GREEDY)
    recorded = drafting._core.runner.drafts._recorded_draft
    assert recorded._is_recordable
    assert (5, 1) in recorded._recorded  # four guesses, and the step that computes the last of them
