"""Self-attention of one decoder layer over the paged KV cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from octavo import kernels
from octavo.models.config import ModelConfig
from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.models.layers.linear import Linear, MergedLinear
from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.layers.rms_norm import RMSNorm


class SelfAttention(nn.Module):
    """Grouped-query attention (arXiv:2305.13245) with rotary positions.

    Args:
        qkv_bias: query, key and value projections have a bias.
        output_bias: the output projection has a bias.
        qk_norm: each head's query and key are normalised before rotation.
        sliding_window: number of positions that a token sees, itself included; None is all.
        is_fused: the checkpoint has query, key and value projections in one matrix.
        has_sinks: each head has a score that only adds to the sum of its weights (arXiv:2309.17453).
    """

    def __init__(
        self,
        config: ModelConfig,
        placement: Placement,
        *,
        qkv_bias: bool,
        output_bias: bool = False,
        qk_norm: bool = False,
        sliding_window: int | None = None,
        is_fused: bool = False,
        has_sinks: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        self.scale = config.head_dim**-0.5 if config.query_scale is None else config.query_scale
        self.soft_cap = config.attention_soft_cap
        self.sliding_window = sliding_window
        self.norm_eps = config.rms_norm_eps
        query_size, kv_size = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        self.is_fused = is_fused
        self.qkv_proj = MergedLinear(
            config.hidden_size, (query_size, kv_size, kv_size), bias=qkv_bias, placement=placement, is_fused=is_fused
        )
        self.o_proj = Linear(query_size, config.hidden_size, bias=output_bias, placement=placement)
        self.q_norm = self._head_norm(config, placement) if qk_norm else None
        self.k_norm = self._head_norm(config, placement) if qk_norm else None
        self.rounds_attention = placement.rounds_attention
        self.sinks = placement.parameter(self.num_heads, dtype=torch.float32) if has_sinks else None

    def _head_norm(self, config: ModelConfig, placement: Placement) -> RMSNorm:
        return RMSNorm(self.head_dim, config.rms_norm_eps, placement, offset=config.norm_weight_offset)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, kv_cache: LayerKVCache, context: ForwardContext) -> Tensor:
        """``[num_tokens, hidden_size]`` to the same; keys and values are written to the cache on the way."""
        query, key, value = (
            part.unflatten(-1, (-1, self.head_dim))
            for part in self.qkv_proj(x).split(self.qkv_proj.output_sizes, dim=-1)
        )
        query = kernels.rotary_write_kv(
            query,
            key,
            value,
            cos,
            sin,
            kv_cache.key,
            kv_cache.value,
            context.slots,
            None if self.q_norm is None else self.q_norm.weight,
            None if self.k_norm is None else self.k_norm.weight,
            self.norm_eps,
            key_scales=kv_cache.key_scales,
            value_scales=kv_cache.value_scales,
        )
        del key, value  # the memory of all three is free for what follows
        attended = kernels.paged_attention(
            query,
            kv_cache.key,
            kv_cache.value,
            context.block_tables,
            context.query_starts,
            context.seq_lens,
            context.query_lens_host,
            context.seq_lens_host,
            self.scale,
            self.sliding_window,
            self.soft_cap,
            self.sinks,
            key_scales=kv_cache.key_scales,
            value_scales=kv_cache.value_scales,
            rounded=self.rounds_attention,
        )
        output: Tensor = self.o_proj(attended.flatten(1))
        return output

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the projections, and norms and sinks of the heads if there are any."""
        parts = ("qkv_proj",) if self.is_fused else ("q_proj", "k_proj", "v_proj")
        yield from self.qkv_proj.checkpoint_tensors(*(f"{name}.{part}" for part in parts))
        yield from self.o_proj.checkpoint_tensors(f"{name}.o_proj")
        if self.q_norm is not None and self.k_norm is not None:
            yield from self.q_norm.checkpoint_tensors(f"{name}.q_norm")
            yield from self.k_norm.checkpoint_tensors(f"{name}.k_norm")
        if self.sinks is not None:
            yield CheckpointTensor.into(f"{name}.sinks", self.sinks)
