"""Encoders of the BERT family: what all of them share. A family says how its checkpoints call the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavo import kernels
from octavo.models.encoder_config import EncoderConfig
from octavo.models.layers.elementwise import in_whole_vectors
from octavo.models.layers.embedding import Embedding
from octavo.models.layers.layer_norm import LayerNorm
from octavo.models.layers.linear import Linear, MergedLinear
from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.quantization.base import Dense

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True, slots=True)
class EncoderNames:
    """How a family's checkpoints call the parts.

    Attributes:
        base: prefix of the encoder's tensors where a model has a head besides; checkpoints of the bare encoder lack it.
        layers: of all layers; their index follows.
        query, key, value, output, attention_norm, up, down, output_norm: parts of a layer, relative to it.
        head_dense, head_output: the two projections of a cross-encoder's head, outside the encoder.
        ignored: beginnings of names that belong to other heads.
    """

    base: str
    layers: str
    query: str
    key: str
    value: str
    output: str
    attention_norm: str
    up: str
    down: str
    output_norm: str
    head_dense: str = ""
    head_output: str = ""
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EncoderBatch:
    """Whole sequences laid end to end, those of equal length side by side.

    Attributes:
        positions: ``[num_tokens]`` int64, row of the position table for each token.
        type_ids: ``[num_tokens]`` int64, type of each token.
        groups: ``(number of sequences, their length)`` in the order of the tokens.
    """

    positions: Tensor
    type_ids: Tensor
    groups: Sequence[tuple[int, int]]


class EncoderLayer(nn.Module):
    """``norm(x + attention(x))``, then the same with the MLP."""

    def __init__(self, config: EncoderConfig, names: EncoderNames, placement: Placement) -> None:
        super().__init__()
        hidden, intermediate = config.hidden_size, config.intermediate_size
        self.names = names
        self.head_dim = config.head_dim
        self.activation = _ACTIVATIONS[config.hidden_act]
        self.qkv = MergedLinear(hidden, (hidden, hidden, hidden), bias=True, placement=placement)
        self.output = Linear(hidden, hidden, bias=True, placement=placement)
        self.attention_norm = LayerNorm(hidden, config.layer_norm_eps, placement)
        self.up = Linear(hidden, intermediate, bias=True, placement=placement)
        self.down = Linear(intermediate, hidden, bias=True, placement=placement)
        self.output_norm = LayerNorm(hidden, config.layer_norm_eps, placement)

    def forward(self, hidden: Tensor, batch: EncoderBatch) -> Tensor:
        """``[num_tokens, hidden_size]`` to the same."""
        attended = kernels.varlen_attention(self.qkv(hidden), batch.groups, self.head_dim)
        hidden = self.attention_norm(self.output(attended).add_(hidden))
        output: Tensor = self.output_norm(self.down(in_whole_vectors(self.activation, self.up(hidden))).add_(hidden))
        return output

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the projections and norms."""
        names = self.names
        yield from self.qkv.checkpoint_tensors(*(f"{name}.{part}" for part in (names.query, names.key, names.value)))
        yield from self.output.checkpoint_tensors(f"{name}.{names.output}")
        yield from self.attention_norm.checkpoint_tensors(f"{name}.{names.attention_norm}")
        yield from self.up.checkpoint_tensors(f"{name}.{names.up}")
        yield from self.down.checkpoint_tensors(f"{name}.{names.down}")
        yield from self.output_norm.checkpoint_tensors(f"{name}.{names.output_norm}")


class ScoreHead(nn.Module):
    """The number that a cross-encoder gives to a pair, from the vector of its first token."""

    def __init__(self, config: EncoderConfig, names: EncoderNames, placement: Placement) -> None:
        super().__init__()
        self.names = names
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=True, placement=placement)
        self.output = Linear(config.hidden_size, 1, bias=True, placement=placement)

    def forward(self, first_tokens: Tensor) -> Tensor:
        """``[num_seqs, hidden_size]`` to ``[num_seqs, 1]``."""
        score: Tensor = self.output(torch.tanh(self.dense(first_tokens)))
        return score

    def checkpoint_tensors(self) -> Iterator[CheckpointTensor]:
        """Declare both projections."""
        yield from self.dense.checkpoint_tensors(self.names.head_dense)
        yield from self.output.checkpoint_tensors(self.names.head_output)


class Encoder(nn.Module):
    """A bidirectional transformer (arXiv:1810.04805), with the head of a cross-encoder if the model has one.

    Attributes:
        config: the shape of the model.
        names: how the family's checkpoints call the parts, without the prefix of the base.
    """

    names: ClassVar[EncoderNames]

    def __init__(self, config: EncoderConfig, placement: Placement) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.words = Embedding(config.vocab_size, size, placement, Dense())
        self.positions = Embedding(config.max_position_embeddings, size, placement, Dense())
        self.types = Embedding(config.type_vocab_size, size, placement, Dense()) if config.type_vocab_size else None
        self.norm = LayerNorm(size, config.layer_norm_eps, placement)
        self.layers = nn.ModuleList(
            EncoderLayer(config, self.names, placement) for _ in range(config.num_hidden_layers)
        )
        self.head = ScoreHead(config, self.names, placement) if config.is_cross_encoder else None

    def forward(self, input_ids: Tensor, batch: EncoderBatch) -> Tensor:
        """Compute the vectors of all tokens: ``[num_tokens]`` int64 to ``[num_tokens, hidden_size]``."""
        embedded = self.words(input_ids).add_(self.positions(batch.positions))
        if self.types is not None:
            embedded.add_(self.types(batch.type_ids))
        hidden: Tensor = self.norm(embedded)
        for layer in self.layers:
            hidden = layer(hidden, batch)
        return hidden

    def checkpoint_tensors(self) -> Iterator[CheckpointTensor]:
        """Declare every tensor that the model takes from a checkpoint, those of the encoder without the base's name."""
        yield from self.words.checkpoint_tensors("embeddings.word_embeddings")
        yield from self.positions.checkpoint_tensors("embeddings.position_embeddings")
        if self.types is not None:
            yield from self.types.checkpoint_tensors("embeddings.token_type_embeddings")
        yield from self.norm.checkpoint_tensors("embeddings.LayerNorm")
        for index, layer in enumerate(cast(Iterable[EncoderLayer], self.layers)):
            yield from layer.checkpoint_tensors(f"{self.names.layers}.{index}")
        if self.head is not None:
            yield from self.head.checkpoint_tensors()

    def ignores(self, name: str) -> bool:
        """Whether a checkpoint tensor may be left out: it repeats what the model has, or belongs to another head."""
        return name == "embeddings.position_ids" or name.startswith(self.names.ignored)
