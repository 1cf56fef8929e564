"""Tokens and log-probabilities with adapters equal those of transformers with PEFT's merged weights, in any batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.engine.core import EngineCore
from octavo.engine.messages import EngineRequest, SequenceUpdate
from octavo.engine.sampling_params import SamplingParams
from octavo.kernels.cpu import has_native
from tests.checkpoints import make_checkpoint
from tests.engine import exactness
from tests.lora_adapters import load_adapted_oracle, make_adapter

PROMPT_LENS = (1, 3, 16, 33, 70)
NUM_TOKENS = 12
MAX_LEN = 128
VOCAB_SIZE = 320
NONE = 0
# The bases differ in biases, tied embeddings, norms of heads and windows, the adapters in all that they may say.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {"sliding_window": 20}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"num_key_value_heads": 1, "head_dim": 32}),
}
ADAPTERS: dict[int, dict[str, Any]] = {
    1: {"r": 8, "lora_alpha": 4},
    2: {"r": 3, "use_rslora": True, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    3: {
        "r": 2,
        "target_modules": r".*\.(?:k_proj|o_proj|up_proj)",
        "rank_pattern": {"layers.1.self_attn.o_proj": 5},
        "alpha_pattern": {"up_proj": 16},
    },
}


@dataclass(frozen=True)
class Case:
    """A checkpoint, its adapters, prompts, and what transformers makes of each pair of a prompt and an adapter."""

    directory: Path
    adapters: dict[int, Path]
    prompts: list[list[int]]
    expected: dict[tuple[int, int], tuple[list[int], list[float]]]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs ``(prompt, adapter)``, adapters changing from one to the next."""
        return list(self.expected)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    family, overrides = FAMILIES[request.param]
    root = tmp_path_factory.mktemp(request.param)
    directory = make_checkpoint(root / "base", family, num_hidden_layers=2, **overrides)
    adapters = {
        number: make_adapter(root / f"adapter-{number}", directory, seed=number, **fields)
        for number, fields in ADAPTERS.items()
    }
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, VOCAB_SIZE, (length,), generator=generator).tolist() for length in PROMPT_LENS]
    oracles = {number: load_adapted_oracle(directory, adapters.get(number)) for number in (NONE, *ADAPTERS)}
    expected = {
        (index, number): exactness.greedy(oracles[number], prompt, NUM_TOKENS)
        for index, prompt in enumerate(prompts)
        for number in (NONE, *ADAPTERS)
    }
    return Case(directory, adapters, prompts, expected)


def make_core(case: Case, *, num_blocks: int = 512, **settings: Any) -> EngineCore:
    settings = {"enable_lora": True, "cpu_threads": 1} | settings
    return exactness.make_core(
        case.directory, max_len=MAX_LEN, num_blocks=num_blocks, adapters=case.adapters, **settings
    )


def add(core: EngineCore, case: Case, pair: tuple[int, int]) -> None:
    core.add(
        EngineRequest(
            request_id=str(pair),
            prompt_token_ids=case.prompts[pair[0]],
            sampling_params=SamplingParams(temperature=0, ignore_eos=True, max_tokens=None, logprobs=0),
            max_tokens=NUM_TOKENS,
            eos_token_ids=[],
            seed=0,
            lora_id=pair[1],
        )
    )


def run(core: EngineCore, case: Case, pairs: list[tuple[int, int]]) -> dict[tuple[int, int], list[SequenceUpdate]]:
    updates: dict[str, list[SequenceUpdate]] = {str(pair): [] for pair in pairs}
    for pair in pairs:
        add(core, case, pair)
    while core.has_work:
        for update in core.step().updates:
            updates[update.request_id].append(update)
    assert core.stats().num_used_blocks == 0
    return {pair: updates[str(pair)] for pair in pairs}


def check(case: Case, found: dict[tuple[int, int], list[SequenceUpdate]]) -> None:
    for pair, updates in found.items():
        tokens, logprobs = case.expected[pair]
        assert [token for update in updates for token in update.token_ids] == tokens, pair
        given = [position.logprobs[0] for update in updates for position in update.logprobs or []]
        assert given == pytest.approx(logprobs, abs=1e-4)


def test_the_adapters_change_what_is_generated(case: Case) -> None:
    longest = len(PROMPT_LENS) - 1
    assert len({tuple(case.expected[longest, number][0]) for number in (NONE, *ADAPTERS)}) == len(ADAPTERS) + 1


def test_one_adapter_alone(case: Case) -> None:
    core = make_core(case, enable_prefix_caching=False)
    for number in ADAPTERS:
        pairs = [(index, number) for index in range(len(PROMPT_LENS))]
        check(case, run(core, case, pairs))


def test_three_adapters_and_none_in_one_batch(case: Case) -> None:
    check(case, run(make_core(case), case, case.pairs))


@pytest.mark.skipif(not has_native(), reason="torch's products depend on the size of the batch")
def test_the_same_bits_alone_and_in_a_batch(case: Case) -> None:
    def bits(updates: list[SequenceUpdate]) -> list[tuple[list[int], list[float]]]:
        return [(update.token_ids, [p.logprobs[0] for p in update.logprobs or []]) for update in updates]

    together = run(make_core(case, max_num_batched_tokens=32), case, case.pairs)
    for pair in case.pairs:
        (alone,) = run(make_core(case, enable_prefix_caching=False), case, [pair]).values()
        assert [entry for entry in bits(alone) if entry[0]] == [entry for entry in bits(together[pair]) if entry[0]], (
            pair
        )


def test_chunked_prefill(case: Case) -> None:
    check(case, run(make_core(case, max_num_batched_tokens=16), case, case.pairs))


def test_preemption(case: Case) -> None:
    core = make_core(case, num_blocks=MAX_LEN // 16 + 2)
    check(case, run(core, case, case.pairs))
    assert core.stats().total_preemptions > 0


def test_prefixes_are_reused_by_the_same_adapter_only(case: Case) -> None:
    core = make_core(case)
    longest = len(PROMPT_LENS) - 1
    for number in (NONE, *ADAPTERS):
        (first,) = run(core, case, [(longest, number)]).values()
        assert first[0].num_cached_tokens == 0
    found = run(core, case, [(longest, number) for number in (NONE, *ADAPTERS)])
    check(case, found)
    assert {updates[0].num_cached_tokens for updates in found.values()} == {PROMPT_LENS[longest] // 16 * 16}


def test_no_more_than_max_loras_run_at_a_time(case: Case) -> None:
    core = make_core(case, max_loras=1)
    for pair in case.pairs:
        add(core, case, pair)
    while core.has_work:
        core.step()
        assert len({request.lora_id for request in core.scheduler.running} - {NONE}) <= 1
    check(case, run(core, case, case.pairs))
