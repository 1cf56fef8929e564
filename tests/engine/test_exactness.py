"""Greedy tokens and log-probabilities of the engine equal those of transformers, however requests are scheduled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.engine.core import EngineCore
from octavo.engine.messages import EngineRequest, SequenceUpdate
from octavo.engine.sampling_params import SamplingParams
from tests.checkpoints import load_oracle, make_checkpoint
from tests.engine import exactness

PROMPT_LENS = (1, 2, 3, 7, 15, 16, 17, 31, 33, 48, 64, 65, 100, 129, 200, 300)
NUM_TOKENS = 64
MAX_LEN = 512
VOCAB_SIZE = 320
BLOCKS_OF_LONGEST = MAX_LEN // 16


def rope(rope_type: str, **fields: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **fields}}


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
# No answer here crosses the original length: transformers would then compute all keys anew.
LONGROPE = {
    "max_position_embeddings": 784,
    "original_max_position_embeddings": 196,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0 + 0.1 * i for i in range(8)],
        "long_factor": [1.0 + 0.9 * i for i in range(8)],
    },
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "deepseek-v3": ("deepseek_v3", {}),
    "gemma3": ("gemma3", {"sliding_window": 50, "num_hidden_layers": 6}),
    "gpt-oss": ("gpt_oss", {"sliding_window": 50}),
    "llama2": ("llama", {"num_key_value_heads": 4}),
    "llama3": ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True} | LLAMA3),
    "llama-dynamic": ("llama", {"max_position_embeddings": 128} | rope("dynamic", factor=4.0)),
    "mistral": ("mistral", {"sliding_window": 50}),
    "phi3-longrope": ("phi3", LONGROPE),
    "qwen2": ("qwen2", rope("yarn", factor=4.0, original_max_position_embeddings=128)),
    "qwen3": ("qwen3", {"num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": True}),
}


@dataclass(frozen=True)
class Case:
    """A checkpoint, the prompts, and what transformers makes of them one by one."""

    directory: Path
    prompts: list[list[int]]
    tokens: list[list[int]]
    logprobs: list[list[float]]


@pytest.fixture(scope="module", params=VARIANTS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    family, overrides = VARIANTS[request.param]
    directory = make_checkpoint(tmp_path_factory.mktemp(request.param), family, **overrides)
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, VOCAB_SIZE, (length,), generator=generator).tolist() for length in PROMPT_LENS]
    answers = [exactness.greedy(load_oracle(directory), prompt, NUM_TOKENS) for prompt in prompts]
    return Case(directory, prompts, [tokens for tokens, _ in answers], [logprobs for _, logprobs in answers])


def make_core(case: Case, *, num_blocks: int = 2048, **settings: Any) -> EngineCore:
    return exactness.make_core(case.directory, max_len=MAX_LEN, num_blocks=num_blocks, **settings)


def run(core: EngineCore, prompts: list[list[int]], *, logprobs: bool = False) -> list[list[SequenceUpdate]]:
    """Generate for all prompts at the same time; returns the updates of each."""
    params = SamplingParams(temperature=0, ignore_eos=True, max_tokens=None, logprobs=0 if logprobs else None)
    updates: dict[str, list[SequenceUpdate]] = {str(index): [] for index in range(len(prompts))}
    for index, prompt in enumerate(prompts):
        core.add(
            EngineRequest(
                request_id=str(index),
                prompt_token_ids=prompt,
                sampling_params=params,
                max_tokens=NUM_TOKENS,
                eos_token_ids=[],
                seed=0,
            )
        )
    while core.has_work:
        for update in core.step().updates:
            updates[update.request_id].append(update)
    assert core.stats().num_used_blocks == 0
    return list(updates.values())


def tokens_of(updates: list[list[SequenceUpdate]]) -> list[list[int]]:
    return [[token for update in sequence for token in update.token_ids] for sequence in updates]


def test_alone(case: Case) -> None:
    core = make_core(case, enable_prefix_caching=False)
    assert [tokens_of(run(core, [prompt]))[0] for prompt in case.prompts] == case.tokens


def test_in_one_batch_with_equal_logprobs(case: Case) -> None:
    core = make_core(case)
    updates = run(core, case.prompts, logprobs=True)
    assert tokens_of(updates) == case.tokens
    for sequence, expected in zip(updates, case.logprobs, strict=True):
        logprobs = [position.logprobs[0] for update in sequence for position in update.logprobs or []]
        assert logprobs == pytest.approx(expected, abs=1e-4)


def test_chunked_with_a_budget_of_16(case: Case) -> None:
    assert tokens_of(run(make_core(case, max_num_batched_tokens=16), case.prompts)) == case.tokens


def test_with_a_prefix_cache_hit(case: Case) -> None:
    core = make_core(case)
    run(core, case.prompts)
    updates = run(core, case.prompts)
    assert tokens_of(updates) == case.tokens
    cached = [sequence[0].num_cached_tokens for sequence in updates]
    assert cached == [(length - 1) // 16 * 16 for length in PROMPT_LENS]


def test_with_preemption(case: Case) -> None:
    core = make_core(case, num_blocks=BLOCKS_OF_LONGEST + 4)
    assert tokens_of(run(core, case.prompts)) == case.tokens
    assert core.stats().total_preemptions > 0
