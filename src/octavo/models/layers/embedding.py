"""From token ids to vectors, and from vectors to logits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

from torch import Tensor, nn

from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.quantization.base import Dense, LinearFormat, LinearWeight, LookupWeight
from octavo.models.quantization.native import allocate_weight


class Embedding(nn.Module):
    """A vector for each token id.

    Args:
        weight_format: of the table; it allows a lookup.
    """

    def __init__(self, vocab_size: int, hidden_size: int, placement: Placement, weight_format: LinearFormat) -> None:
        super().__init__()
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.dtype = placement.dtype
        self.format = weight_format
        self.weight = cast("LookupWeight", allocate_weight(weight_format, vocab_size, hidden_size, placement))

    def forward(self, input_ids: Tensor) -> Tensor:
        """``[num_tokens]`` int64 to ``[num_tokens, hidden_size]``."""
        return self.weight.lookup(input_ids, self.dtype)

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the table."""
        yield from self.format.checkpoint_tensors(
            name, self.vocab_size, self.hidden_size, partial(self.weight.copy_rows, 0)
        )


class LMHead(nn.Module):
    """Logits of the next token.

    Args:
        tied: the embedding whose table this is, too.
    """

    def __init__(self, vocab_size: int, hidden_size: int, placement: Placement, *, tied: Embedding | None) -> None:
        super().__init__()
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.format = placement.head_format
        self.is_tied = tied is not None
        self.weight: LinearWeight = (
            tied.weight if tied is not None else allocate_weight(self.format, vocab_size, hidden_size, placement)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """``[num_tokens, hidden_size]`` to float32 ``[num_tokens, vocab_size]``."""
        logits: Tensor = self.weight(hidden)
        return logits.float()

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the matrix, unless it is the embedding's own."""
        if not self.is_tied:
            yield from self.format.checkpoint_tensors(
                name, self.vocab_size, self.hidden_size, partial(self.weight.copy_rows, 0)
            )


def embedding_and_head(
    vocab_size: int, hidden_size: int, placement: Placement, *, tied: bool
) -> tuple[Embedding, LMHead]:
    """Return both ends of a model.

    Args:
        tied: both are the same matrix, in the head's format. If that allows no lookup, the embedding has a dense copy.
    """
    head_format = placement.head_format
    is_shared = tied and head_format.allows_lookup
    embedding_format = head_format if is_shared or head_format.holds_embedding else Dense()
    embedding = Embedding(vocab_size, hidden_size, placement, embedding_format)
    return embedding, LMHead(vocab_size, hidden_size, placement, tied=embedding if is_shared else None)
