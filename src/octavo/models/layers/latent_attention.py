"""Multi-head latent attention over the paged cache (DeepSeek-V2, arXiv:2405.04434)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from octavo import kernels
from octavo.kernels.reference import apply_rotary, write_kv
from octavo.models.config import ModelConfig
from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.models.layers.head_linear import HeadLinear
from octavo.models.layers.linear import Linear
from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.layers.rms_norm import RMSNorm
from octavo.models.quantization.base import Dense, LinearWeight
from octavo.models.quantization.packed import PackedFormat

_LATENT_NORM_EPS = 1e-6  # whatever rms_norm_eps says


class LatentAttention(nn.Module):
    """Attention whose keys and values are all made from one small vector a token; that vector alone is cached.

    The matrices that make keys and values of it are applied to queries and results instead: what is left is attention
    with one key head, ``[rotated key, latent vector]``, whose values are the latent vectors. So the cache is one
    tensor, with the rotated dimensions first, and the matrices stay dense under every quantisation.
    """

    def __init__(self, config: ModelConfig, placement: Placement, *, bias: bool) -> None:
        super().__init__()
        sizes = config.latent_attention
        assert sizes is not None, "the reader of this family makes one"
        self.sizes = sizes
        self.num_heads = config.num_attention_heads
        self.hidden_size = config.hidden_size
        head_size = sizes.unrotated_size + sizes.rotated_size
        self.scale = head_size**-0.5 if config.query_scale is None else config.query_scale
        rank = sizes.query_rank
        self.q_a_proj = None if rank is None else Linear(self.hidden_size, rank, bias=bias, placement=placement)
        self.q_norm = None if rank is None else RMSNorm(rank, _LATENT_NORM_EPS, placement)
        self.q_proj = Linear(rank or self.hidden_size, self.num_heads * head_size, bias=False, placement=placement)
        self.kv_a_proj = Linear(
            self.hidden_size, sizes.latent_size + sizes.rotated_size, bias=bias, placement=placement
        )
        self.kv_norm = RMSNorm(sizes.latent_size, _LATENT_NORM_EPS, placement)
        is_packed = isinstance(placement.linear_format, PackedFormat)
        self.up_format = placement.linear_format if is_packed else Dense()
        # What was packed is not rounded a second time.
        up = replace(placement, matrix_dtype=placement.dtype) if is_packed else placement
        self.key_up = HeadLinear(self.num_heads, sizes.unrotated_size, sizes.latent_size, up)
        self.value_up = HeadLinear(self.num_heads, sizes.latent_size, sizes.value_size, up)
        self.o_proj = Linear(self.num_heads * sizes.value_size, self.hidden_size, bias=bias, placement=placement)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, kv_cache: LayerKVCache, context: ForwardContext) -> Tensor:
        """``[num_tokens, hidden_size]`` to the same; latent vectors and rotated keys are cached on the way."""
        sizes = self.sizes
        query = self.q_proj(self._query_input(x)).view(len(x), self.num_heads, -1)
        unrotated, rotated = query.split((sizes.unrotated_size, sizes.rotated_size), dim=-1)
        latent, key = self.kv_a_proj(x).split((sizes.latent_size, sizes.rotated_size), dim=-1)
        latent, _ = self.kv_norm(latent.contiguous())
        rotated, key = apply_rotary(self._paired(rotated), self._paired(key.unsqueeze(1)), cos, sin)
        key = torch.cat((key, latent.unsqueeze(1)), dim=-1)
        write_kv(key, key, kv_cache.key, kv_cache.key, context.slots)
        attended = kernels.paged_attention(
            torch.cat((rotated, self.key_up(unrotated)), dim=-1),
            kv_cache.key,
            kv_cache.key,
            context.block_tables,
            context.query_starts,
            context.seq_lens,
            context.query_lens_host,
            context.seq_lens_host,
            self.scale,
        )
        values: Tensor = self.value_up(attended[..., sizes.rotated_size :])
        output: Tensor = self.o_proj(values.flatten(1))
        return output

    def _query_input(self, x: Tensor) -> Tensor:
        if self.q_a_proj is None or self.q_norm is None:
            return x
        normalised: Tensor = self.q_norm(self.q_a_proj(x))[0]
        return normalised

    def _paired(self, x: Tensor) -> Tensor:
        """Bring the two dimensions of each pair from side by side to half a head apart."""
        if not self.sizes.rope_is_interleaved:
            return x
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        return pairs.transpose(-1, -2).flatten(-2)

    def checkpoint_name(self, projection: str) -> str:
        """Return the name that checkpoints have for the projection in an attribute."""
        if projection == "q_proj" and self.q_a_proj is not None:
            return "q_b_proj"
        return "kv_a_proj_with_mqa" if projection == "kv_a_proj" else projection

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare projections and norms."""
        if self.q_a_proj is not None and self.q_norm is not None:
            yield from self.q_a_proj.checkpoint_tensors(f"{name}.q_a_proj")
            yield from self.q_norm.checkpoint_tensors(f"{name}.q_a_layernorm")
        yield from self.q_proj.checkpoint_tensors(f"{name}.{self.checkpoint_name('q_proj')}")
        yield from self.kv_a_proj.checkpoint_tensors(f"{name}.{self.checkpoint_name('kv_a_proj')}")
        yield from self.kv_norm.checkpoint_tensors(f"{name}.kv_a_layernorm")
        size_of_both = self.sizes.unrotated_size + self.sizes.value_size
        yield from self.up_format.checkpoint_tensors(
            f"{name}.kv_b_proj", self.num_heads * size_of_both, self.sizes.latent_size, self._take_up
        )
        yield from self.o_proj.checkpoint_tensors(f"{name}.o_proj")

    def _take_up(self, weight: LinearWeight) -> None:
        by_head = weight.dequantize().view(self.num_heads, -1, self.sizes.latent_size)
        self.key_up.take(by_head[:, : self.sizes.unrotated_size].transpose(1, 2))
        self.value_up.take(by_head[:, self.sizes.unrotated_size :])
