"""What a model is to a planner: its matrices, what it caches for each token, and how much it computes.

Counts only: no tensor is made and no weight is read. ``octavo.plan.families`` makes these records from a
``config.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A matrix that tokens are multiplied with.

    Attributes:
        count: how many of them a layer has: 1, or one for each expert of a mixture.
        num_active: how many of them one token uses.
    """

    in_features: int
    out_features: int
    has_bias: bool = False
    count: int = 1
    num_active: int = 1

    @property
    def num_weights(self) -> int:
        """Elements of all matrices, without biases."""
        return self.count * self.in_features * self.out_features

    @property
    def num_biases(self) -> int:
        """Elements of all biases."""
        return self.count * self.out_features * self.has_bias

    @property
    def num_parameters(self) -> int:
        """Elements of all matrices and biases."""
        return self.num_weights + self.num_biases

    @property
    def num_active_parameters(self) -> int:
        """Elements of the matrices and biases that one token uses."""
        return self.num_parameters * self.num_active // self.count

    @property
    def is_expert(self) -> bool:
        """Whether a token uses a part of the copies only."""
        return self.count > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """The attention of one layer.

    Attributes:
        num_other_parameters: norms of heads, sinks and the like.
        num_kv_heads: heads of the cache; 1 if all query heads read the same.
        kv_elements_per_token: numbers that the cache keeps for each token.
        macs_per_pair: multiplications with addition for each pair of a query token and a key token, over all heads.
        is_latent: keys and values of all heads are made from one vector, which is what the cache keeps.
    """

    linears: tuple[Linear, ...]
    num_other_parameters: int = 0
    num_kv_heads: int
    kv_elements_per_token: int
    macs_per_pair: int
    is_latent: bool = False

    @property
    def kv_vectors_per_token(self) -> int:
        """Vectors that the cache keeps for each token: a key and a value of each head, or the latent one."""
        return 1 if self.is_latent else 2 * self.num_kv_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpShape:
    """What follows attention in a layer: a dense MLP, or a mixture of experts with its router.

    Attributes:
        width: numbers that the widest point keeps for each token.
        num_other_parameters: routers and gates: small, and left in 16 bits by all quantization methods.
    """

    linears: tuple[Linear, ...]
    width: int
    num_other_parameters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """One decoder layer.

    Attributes:
        window: number of positions that a token sees, itself included; None is all.
    """

    attention: AttentionShape
    mlp: MlpShape
    num_norm_parameters: int
    window: int | None = None

    @property
    def linears(self) -> tuple[Linear, ...]:
        """All matrices of the layer."""
        return self.attention.linears + self.mlp.linears

    @property
    def num_other_parameters(self) -> int:
        """Parameters that are in no matrix of ``linears``."""
        return self.num_norm_parameters + self.attention.num_other_parameters + self.mlp.num_other_parameters


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer.

    Attributes:
        model_type: family, as ``config.json`` names it.
        architecture: class of the family's language model, e.g. ``LlamaForCausalLM``.
        num_embedding_parameters: tables of tokens and, if they are learned, positions.
        lm_head: the matrix that makes logits; None if it is the embedding table.
        num_other_parameters: the last norm and the like.
        max_model_len: longest sequence that the model is made for.
        dtype: type of the checkpoint's weights: float32, bfloat16 or float16.
        is_part: whether the model has more than this, e.g. a vision tower, which is not counted.
        quantization_config: what the checkpoint says about how its weights are packed; empty if they are not.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_attention_heads: int
    layers: tuple[LayerShape, ...]
    num_embedding_parameters: int
    lm_head: Linear | None
    num_other_parameters: int
    max_model_len: int
    dtype: str
    architecture: str = ""
    is_part: bool = False
    quantization_config: dict[str, object] = field(default_factory=dict)

    @property
    def num_layers(self) -> int:
        """Decoder layers."""
        return len(self.layers)

    @property
    def num_kv_heads(self) -> int:
        """Heads of the cache in the layer that has most."""
        return max(layer.attention.num_kv_heads for layer in self.layers)

    def linears(self) -> Iterator[Linear]:
        """Yield the matrices of all layers; the head is not among them."""
        for layer in self.layers:
            yield from layer.linears

    @cached_property
    def num_parameters(self) -> int:
        """All parameters; shared ones count once."""
        return self.num_unquantized_parameters + sum(linear.num_weights for linear in self.linears())

    @cached_property
    def num_unquantized_parameters(self) -> int:
        """Parameters that stay as they are under weight quantization: embeddings, head, norms, routers and biases."""
        return (
            self.num_embedding_parameters
            + (self.lm_head.num_parameters if self.lm_head else 0)
            + self.num_other_parameters
            + sum(layer.num_other_parameters for layer in self.layers)
            + sum(linear.num_biases for linear in self.linears())
        )

    @cached_property
    def num_active_parameters(self) -> int:
        """Parameters that one token uses: all but the experts that it is not sent to."""
        idle = sum(linear.num_parameters - linear.num_active_parameters for linear in self.linears())
        return self.num_parameters - idle

    @cached_property
    def has_latent_attention(self) -> bool:
        """Whether some layer keeps one vector for the keys and values of all heads."""
        return any(layer.attention.is_latent for layer in self.layers)

    @cached_property
    def kv_elements_per_token(self) -> int:
        """Numbers that the caches of all layers keep for each token."""
        return sum(layer.attention.kv_elements_per_token for layer in self.layers)

    @cached_property
    def windows(self) -> dict[int | None, int]:
        """Number of layers by the window that they have."""
        counts: dict[int | None, int] = {}
        for layer in self.layers:
            counts[layer.window] = counts.get(layer.window, 0) + 1
        return counts
