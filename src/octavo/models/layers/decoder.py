"""The frame that all families share: embedding, a stack of pre-norm layers, a final norm, logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import cast

from torch import Tensor, nn

from octavo.models.config import ModelConfig
from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.embedding import embedding_and_head
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.layers.rms_norm import RMSNorm
from octavo.models.layers.rotary import RotaryEmbedding


class DecoderLayer(nn.Module):
    """``x + attention(norm(x))``, then the same with the MLP; each addition is fused into the norm that follows it."""

    def __init__(self, config: ModelConfig, attention: SelfAttention, mlp: GatedMLP, placement: Placement) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, placement)
        self.self_attn = attention
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, placement)
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
        yield from self.mlp.checkpoint_tensors(f"{name}.mlp")


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
        self.rotary = RotaryEmbedding(config.rope, config.head_dim, placement)
        self.layers = nn.ModuleList(self.make_layer(index, placement) for index in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, placement)
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
        """Return what the layers start from: vectors ``[num_tokens, hidden_size]``, and cosine and sine of angles."""
        return self.embed_tokens(input_ids), self.rotary.cos_sin(context.positions, context.prompt_lens)

    def compute_layers(self, hidden: Tensor, angles: tuple[Tensor, ...], context: ForwardContext) -> Tensor:
        """Do what is left of ``forward`` after ``prepare``."""
        cos, sin = angles
        residual: Tensor | None = None
        for layer, kv_cache in zip(self.layers, context.kv_caches, strict=True):
            hidden, residual = layer(hidden, residual, cos, sin, kv_cache, context)
        hidden, _ = self.norm(hidden, residual)
        return hidden

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits ``[n, vocab_size]`` for the rows ``[n, hidden_size]`` of a forward pass."""
        logits: Tensor = self.lm_head(hidden)
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
