"""Logits of every family equal those of transformers, however the tokens are cut into steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.models.layers.decoder import CausalLM
from tests.checkpoints import load_oracle, make_checkpoint
from tests.models.paged_run import PagedRun, load_float32


def rope(rope_type: str, **fields: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **fields}}


YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
LONGROPE = {
    "max_position_embeddings": 88,
    "original_max_position_embeddings": 22,  # of the prompts here some are longer, and no answer crosses it
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0 + 0.1 * i for i in range(6)],
        "long_factor": [1.0 + 0.9 * i for i in range(6)],
        "partial_rotary_factor": 0.75,
    },
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "deepseek-v2": ("deepseek_v2", {"topk_method": "group_limited_greedy", "routed_scaling_factor": 2.0}),
    "deepseek-v2-lite": ("deepseek_v2", {"q_lora_rank": None, "attention_bias": True, "mlp_bias": True}),
    "deepseek-v3": ("deepseek_v3", {}),
    "deepseek-v3-yarn": (
        "deepseek_v3",
        rope("yarn", factor=4.0, original_max_position_embeddings=16, mscale=1.0, mscale_all_dim=0.7)
        | {"rope_interleave": False, "norm_topk_prob": False},
    ),
    "gemma2": ("gemma2", {"sliding_window": 7, "query_pre_attn_scalar": 24}),
    "gemma2-no-caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma2-low-caps": ("gemma2", {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("gemma3", {"sliding_window": 7, "num_hidden_layers": 7}),
    "gemma3-linear": (
        "gemma3",
        {
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "gpt-oss": ("gpt_oss", {"sliding_window": 7}),
    "gpt-oss-no-biases": ("gpt_oss", {"attention_bias": False} | rope("default")),
    "llama": ("llama", {}),
    "llama-multi-head": ("llama", {"num_key_value_heads": 4}),
    "llama-multi-query": ("llama", {"num_key_value_heads": 1}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": ("llama", {"head_dim": 32}),
    "llama-implied-head-dim": ("llama", {"head_dim": None, "num_attention_heads": 8}),
    "llama-theta-and-eps": ("llama", {"rms_norm_eps": 1e-2} | rope("default") | {"hidden_size": 32}),
    "llama-linear": ("llama", rope("linear", factor=4.0)),
    "llama-dynamic": ("llama", {"max_position_embeddings": 16} | rope("dynamic", factor=3.0)),
    "llama-dynamic-longer-than-prompt": ("llama", {"max_position_embeddings": 30} | rope("dynamic", factor=2.0)),
    "llama-llama3": (
        "llama",
        rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16),
    ),
    "llama-yarn": ("llama", rope("yarn", **YARN)),
    "llama-yarn-mscale": ("llama", rope("yarn", **YARN, mscale=0.7, mscale_all_dim=1.3)),
    "llama-yarn-attention-factor": ("llama", rope("yarn", **YARN, attention_factor=1.2)),
    "llama-yarn-not-truncated": ("llama", rope("yarn", **YARN, truncate=False, beta_fast=4.0, beta_slow=0.5)),
    "mistral-window": ("mistral", {"sliding_window": 7}),
    "mistral-no-window": ("mistral", {"sliding_window": None}),
    "mixtral": ("mixtral", {}),
    "mixtral-window": ("mixtral", {"sliding_window": 6, "tie_word_embeddings": True}),
    "phi3": ("phi3", {}),
    "phi3-window-partial": (
        "phi3",
        {
            "sliding_window": 7,
            "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5, "rope_theta": 5000.0},
        },
    ),
    "phi3-longrope": ("phi3", LONGROPE),
    "qwen2": ("qwen2", {}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen2-yarn": ("qwen2", rope("yarn", **YARN)),
    "qwen3": ("qwen3", {}),
    "qwen3-tied-wide-heads": ("qwen3", {"tie_word_embeddings": True, "head_dim": 32}),
    "qwen3-biases": ("qwen3", {"attention_bias": True}),
    "qwen3-moe": ("qwen3_moe", {}),
    "qwen3-moe-some-layers": (
        "qwen3_moe",
        {"norm_topk_prob": True, "decoder_sparse_step": 2, "num_hidden_layers": 4, "mlp_only_layers": [3]},
    ),
    "qwen3-window": (
        "qwen3",
        {
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
}


@pytest.fixture(scope="module", params=VARIANTS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, overrides = VARIANTS[request.param]
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), family, **overrides)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> CausalLM:
    return load_float32(checkpoint)


def random_ids(length: int, seed: int) -> list[int]:
    return torch.randint(0, 320, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.no_grad()
def oracle_logits(checkpoint: Path, token_ids: list[int], prompt_len: int) -> Tensor:
    """Logits of one request alone: its prompt at once, then one token at a time with transformers' own cache."""
    oracle = load_oracle(checkpoint)
    output = oracle(torch.tensor([token_ids[:prompt_len]]), use_cache=True)
    logits = [output.logits[0]]
    for token_id in token_ids[prompt_len:]:
        output = oracle(torch.tensor([[token_id]]), past_key_values=output.past_key_values, use_cache=True)
        logits.append(output.logits[0])
    return torch.cat(logits)


def test_whole_prompts_in_one_batch_give_the_logits_of_transformers(checkpoint: Path, model: CausalLM) -> None:
    prompts = [random_ids(length, seed=length) for length in (41, 1, 18)]
    run = PagedRun(model, prompts, [len(prompt) for prompt in prompts])
    for prompt, logits in zip(prompts, run.step([(0, 41), (1, 1), (2, 18)]), strict=True):
        torch.testing.assert_close(logits, oracle_logits(checkpoint, prompt, len(prompt)), atol=1e-4, rtol=1e-4)


def test_chunked_prompt_and_decode_in_mixed_batches_give_the_logits_of_transformers(
    checkpoint: Path, model: CausalLM
) -> None:
    sequences = [random_ids(length, seed=length) for length in (36, 20, 9)]
    prompt_lens = [26, 15, 3]
    run = PagedRun(model, sequences, prompt_lens)
    collected: list[list[Tensor]] = [[], [], []]
    # Chunks of the first prompt between decode steps of the others, then all decode, then fewer and fewer.
    steps = [[(2, 3)], [(2, 1), (0, 11)], [(0, 15), (2, 1), (1, 6)], [(2, 1), (1, 9)]]
    steps += [[(0, 1), (2, 1), (1, 1)]] * 3 + [[(1, 1), (0, 1)]] * 2 + [[(0, 1)]] * 5
    for step in steps:
        for (sequence, _), logits in zip(step, run.step(step), strict=True):
            collected[sequence].append(logits)
    for sequence, prompt_len, logits_of_steps in zip(sequences, prompt_lens, collected, strict=True):
        expected = oracle_logits(checkpoint, sequence, prompt_len)
        torch.testing.assert_close(torch.cat(logits_of_steps), expected, atol=1e-4, rtol=1e-4)


def test_logits_are_float32_and_hidden_states_of_the_models_type(model: CausalLM) -> None:
    run = PagedRun(model, [[1, 2, 3]], [3])
    (logits,) = run.step([(0, 3)])
    assert logits.dtype == torch.float32
    assert logits.shape == (3, model.config.vocab_size)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
