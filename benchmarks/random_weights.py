"""Seeded random weights for a shape, under the names of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.shapes import LlamaShape, Qwen3Shape

_STANDARD_DEVIATION = 0.02


def random_weights(shape: Qwen3Shape) -> dict[str, Tensor]:
    """Return bfloat16 weights; norms are 1."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, size in _tensor_shapes(shape):
        if len(size) == 1:
            weights[name] = torch.ones(size, dtype=torch.bfloat16)
        else:
            weights[name] = torch.empty(size, dtype=torch.bfloat16).normal_(0, _STANDARD_DEVIATION, generator=generator)
    return weights


def _tensor_shapes(shape: Qwen3Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, query, kv = shape.hidden_size, shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.vocab_size, hidden)
    yield "model.norm.weight", (hidden,)
    for number in range(shape.num_layers):
        layer = f"model.layers.{number}"
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
        yield f"{layer}.self_attn.q_proj.weight", (query, hidden)
        yield f"{layer}.self_attn.k_proj.weight", (kv, hidden)
        yield f"{layer}.self_attn.v_proj.weight", (kv, hidden)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, query)
        if not isinstance(shape, LlamaShape):
            yield f"{layer}.self_attn.q_norm.weight", (shape.head_dim,)
            yield f"{layer}.self_attn.k_norm.weight", (shape.head_dim,)
        yield f"{layer}.mlp.gate_proj.weight", (shape.intermediate_size, hidden)
        yield f"{layer}.mlp.up_proj.weight", (shape.intermediate_size, hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, shape.intermediate_size)
