"""Adapters of families whose layers are put together in ways of their own: fused, sandwiched, latent, of experts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.checkpoints import make_checkpoint
from tests.engine.exactness import greedy
from tests.engine.lora.test_exactness import NONE, NUM_TOKENS, VOCAB_SIZE, Case, check, make_core, run
from tests.lora_adapters import ALL_LINEAR, load_adapted_oracle, make_adapter

_ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
TARGETS = {
    "deepseek_v2": ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj"],
    "gemma2": ALL_LINEAR,
    "gemma3": ALL_LINEAR,
    "gpt_oss": _ATTENTION,
    "mixtral": _ATTENTION,
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
}


@pytest.mark.parametrize("family", TARGETS)
def test_rows_with_and_without_an_adapter(family: str, tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "base", family, num_hidden_layers=2)
    adapter = make_adapter(tmp_path / "adapter", directory, target_modules=TARGETS[family])
    prompts = [torch.randint(0, VOCAB_SIZE, (40,), generator=torch.Generator().manual_seed(1)).tolist()]
    expected = {
        (0, number): greedy(load_adapted_oracle(directory, path), prompts[0], NUM_TOKENS)
        for number, path in ((NONE, None), (1, adapter))
    }
    case = Case(directory, {1: adapter}, prompts, expected)
    assert expected[0, NONE][1] != pytest.approx(expected[0, 1][1], abs=1e-3)
    check(case, run(make_core(case), case, case.pairs))
