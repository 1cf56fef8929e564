"""The frame that all families share: embedding, a stack of pre-norm layers, a final norm, logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor, nn

from octavo.models.config import ModelConfig
from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.models.layers.embedding import embedding_and_head
from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.layers.rms_norm import RMSNorm
from octavo.models.layers.rotary import RotaryEmbedding

if TYPE_CHECKING:
    from octavo.models.layers.attention import SelfAttention
    from octavo.models.layers.latent_attention import LatentAttention
    from octavo.models.layers.mixture import MixtureOfExperts
    from octavo.models.layers.mlp import GatedMLP


Attention: TypeAlias = "SelfAttention | LatentAttention"
FeedForward: TypeAlias = "GatedMLP | MixtureOfExperts"


def make_norm(config: ModelConfig, placement: Placement) -> RMSNorm:
    """Return a norm of the hidden state."""
    return RMSNorm(config.hidden_size, config.rms_norm_eps, placement, offset=config.norm_weight_offset)


class DecoderLayer(nn.Module):
    """``x + attention(norm(x))``, then the same with the MLP; each addition is fused into the norm that follows it.

    Attributes:
        mlp_name: what the checkpoint calls the feed-forward block.
    """

    mlp_name = "mlp"

    def __init__(self, config: ModelConfig, attention: Attention, mlp: FeedForward, placement: Placement) -> None:
        super().__init__()
        self.input_layernorm = make_norm(config, placement)
        self.self_attn = attention
        self.post_attention_layernorm = make_norm(config, placement)
        self.mlp = mlp

    def forward(
        self,
        hidden: Tensor,
        residual: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        kv_cache: LayerKVCache,
        context: ForwardContext,
    ) -> tuple[Tensor, Tensor]:
        """Take and return the last block's output and the sum of all before it, each ``[num_tokens, hidden_size]``."""
        hidden, residual = self.input_layernorm(hidden, residual)
        hidden = self.self_attn(hidden, cos, sin, kv_cache, context)
        hidden, residual = self.post_attention_layernorm(hidden, residual)
        return self.mlp(hidden), residual

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the tensors of both blocks and their norms."""
        yield from self.input_layernorm.checkpoint_tensors(f"{name}.input_layernorm")
        yield from self.self_attn.checkpoint_tensors(f"{name}.self_attn")
        yield from self.post_attention_layernorm.checkpoint_tensors(f"{name}.post_attention_layernorm")
        yield from self.mlp.checkpoint_tensors(f"{name}.{self.mlp_name}")


class SandwichLayer(DecoderLayer):
    """A layer whose blocks are normalised before and after: ``x + norm(attention(norm(x)))``, then so with the MLP."""

    def __init__(self, config: ModelConfig, attention: Attention, mlp: FeedForward, placement: Placement) -> None:
        super().__init__(config, attention, mlp, placement)
        self.pre_feedforward_layernorm = make_norm(config, placement)
        self.post_feedforward_layernorm = make_norm(config, placement)

    def forward(
        self,
        hidden: Tensor,
        residual: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        kv_cache: LayerKVCache,
        context: ForwardContext,
    ) -> tuple[Tensor, Tensor]:
        hidden, residual = self.input_layernorm(hidden, residual)
        hidden, _ = self.post_attention_layernorm(self.self_attn(hidden, cos, sin, kv_cache, context))
        hidden, residual = self.pre_feedforward_layernorm(hidden, residual)
        hidden, _ = self.post_feedforward_layernorm(self.mlp(hidden))
        return hidden, residual

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        yield from super().checkpoint_tensors(name)
        yield from self.pre_feedforward_layernorm.checkpoint_tensors(f"{name}.pre_feedforward_layernorm")
        yield from self.post_feedforward_layernorm.checkpoint_tensors(f"{name}.post_feedforward_layernorm")


class CausalLM(nn.Module, ABC):
    """A decoder-only language model; a family says what its layers are made of.

    Attributes:
        config: the shape of the model.
        num_kv_heads, head_dim: shape of one token's entry in a layer's KV cache.
        is_native: whether it computes with the CPU's native kernels.
    """

    def __init__(self, config: ModelConfig, placement: Placement) -> None:
        super().__init__()
        self.config = config
        self.num_kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        self.is_native = placement.is_native
        embedding, head = embedding_and_head(
            config.vocab_size, config.hidden_size, placement, tied=config.tie_word_embeddings
        )
        self.embed_tokens = embedding
        self.embedding_scale = torch.tensor(config.embedding_scale, dtype=placement.dtype).item()
        self.rotary = RotaryEmbedding(config.rope, config.head_dim, placement)
        self.local_rotary = (
            None if config.local_rope is None else RotaryEmbedding(config.local_rope, config.head_dim, placement)
        )
        self.layers = nn.ModuleList(self.make_layer(index, placement) for index in range(config.num_hidden_layers))
        self.norm = make_norm(config, placement)
        self.lm_head = head

    @abstractmethod
    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        """Return layer ``index``, counted from the input."""

    def forward(self, input_ids: Tensor, context: ForwardContext) -> Tensor:
        """Compute the tokens of one step and write their keys and values to the cache.

        Args:
            input_ids: ``[num_tokens]`` int64.

        Returns:
            ``[num_tokens, hidden_size]`` in the model's type, after the final norm.
        """
        return self.compute_layers(*self.prepare(input_ids, context), context)

    def prepare(self, input_ids: Tensor, context: ForwardContext) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what the layers start from: the tokens' vectors, and the angles of their positions."""
        return self.embed(input_ids), self.angles(context.positions, context.prompt_lens)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the vectors of tokens: ``[num_tokens]`` int64 to ``[num_tokens, hidden_size]``."""
        hidden: Tensor = self.embed_tokens(input_ids)
        return hidden if self.embedding_scale == 1 else hidden * self.embedding_scale

    def angles(self, positions: Tensor, prompt_lens: Tensor) -> tuple[Tensor, ...]:
        """Return cosine and sine of the angles of positions; two more if layers with a window have their own rotation.

        Args:
            positions, prompt_lens: as in ``ForwardContext``.
        """
        angles: tuple[Tensor, ...] = self.rotary.cos_sin(positions, prompt_lens)
        if self.local_rotary is not None:
            angles += self.local_rotary.cos_sin(positions, prompt_lens)
        return angles

    def compute_layers(self, hidden: Tensor, angles: tuple[Tensor, ...], context: ForwardContext) -> Tensor:
        """Do what is left of ``forward`` after ``prepare``."""
        residual: Tensor | None = None
        for layer, window, kv_cache in zip(self.layers, self.config.layer_windows, context.kv_caches, strict=True):
            cos, sin = angles[:2] if window is None else angles[-2:]
            hidden, residual = layer(hidden, residual, cos, sin, kv_cache, context)
        hidden, _ = self.norm(hidden, residual)
        return hidden

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits ``[n, vocab_size]`` for the rows ``[n, hidden_size]`` of a forward pass."""
        logits: Tensor = self.lm_head(hidden)
        if self.config.logits_soft_cap is not None:
            logits = torch.tanh(logits / self.config.logits_soft_cap) * self.config.logits_soft_cap
        return logits

    def checkpoint_tensors(self) -> Iterator[CheckpointTensor]:
        """Declare every tensor that the model takes from a checkpoint."""
        embedding = "model.embed_tokens"
        yield from self.embed_tokens.checkpoint_tensors(embedding)
        for index, layer in enumerate(cast(Iterable[DecoderLayer], self.layers)):
            yield from layer.checkpoint_tensors(f"model.layers.{index}")
        yield from self.norm.checkpoint_tensors("model.norm")
        yield from self.lm_head.checkpoint_tensors(embedding if self.config.tie_word_embeddings else "lm_head")

    def ignores(self, name: str) -> bool:
        """Whether a checkpoint tensor may be left out: it repeats what the model has or computes anyway."""
        return name.endswith(".rotary_emb.inv_freq") or (name == "lm_head.weight" and self.config.tie_word_embeddings)
