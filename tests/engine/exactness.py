"""What tests of exact tokens have in common: greedy answers of transformers, and an engine core with few blocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from octavo.config import EngineConfig
from octavo.engine.builder import build_engine
from octavo.engine.core import EngineCore
from octavo.engine.lora.request import LoRARequest
from octavo.models.config import ModelConfig

BLOCK_SIZE = 16


@torch.no_grad()
def greedy(oracle: Any, prompt: list[int], num_tokens: int) -> tuple[list[int], list[float]]:
    """Return the tokens that a model of transformers chooses, whatever they are, and their log-probabilities."""
    oracle.generation_config.eos_token_id = None
    output = oracle.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=num_tokens,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = output.sequences[0, len(prompt) :].tolist()
    logprobs = torch.cat(output.logits).log_softmax(-1)
    return tokens, [row[token].item() for row, token in zip(logprobs, tokens, strict=True)]


def make_core(
    directory: Path, *, max_len: int, num_blocks: int, adapters: Mapping[int, Path] | None = None, **settings: Any
) -> EngineCore:
    """Make a core with a cache of ``num_blocks`` blocks of float32, and with adapters by their numbers."""
    model_config = ModelConfig.from_directory(directory)
    bytes_per_token = 2 * 4 * model_config.num_hidden_layers * model_config.num_key_value_heads * model_config.head_dim
    config = EngineConfig(
        model=str(directory), kv_cache_memory_bytes=(num_blocks + 1) * BLOCK_SIZE * bytes_per_token, **settings
    )
    requests = [LoRARequest(f"adapter-{number}", number, str(path)) for number, path in (adapters or {}).items()]
    built = build_engine(config, directory, model_config, max_len, requests)
    assert built.ready.failed_adapters == {}
    return built.core
