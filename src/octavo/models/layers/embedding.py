"""From token ids to vectors, and from vectors to logits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.quantization.base import Dense, DenseWeight


class Embedding(nn.Module):
    """A vector for each token id."""

    def __init__(self, vocab_size: int, hidden_size: int, placement: Placement) -> None:
        super().__init__()
        self.weight = placement.parameter(vocab_size, hidden_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        """``[num_tokens]`` int64 to ``[num_tokens, hidden_size]``."""
        return F.embedding(input_ids, self.weight)

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the table."""
        yield CheckpointTensor.into(f"{name}.weight", self.weight)


class LMHead(nn.Module):
    """Logits of the next token.

    A tied head is made of the embedding's table: as it is the very same memory, quantised it is a second, smaller copy.
    """

    def __init__(self, embedding: Embedding, *, tied: bool, placement: Placement) -> None:
        super().__init__()
        self.format = placement.head_format
        self.vocab_size, self.hidden_size = embedding.weight.shape
        self.is_shared = tied and isinstance(self.format, Dense)
        self.weight = (
            DenseWeight(embedding.weight)
            if self.is_shared
            else self.format.allocate(self.vocab_size, self.hidden_size, placement)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """``[num_tokens, hidden_size]`` to float32 ``[num_tokens, vocab_size]``."""
        logits: Tensor = self.weight(hidden)
        return logits.float()

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the matrix, unless it is the embedding's own.

        Args:
            name: of the matrix in the checkpoint; that of the embedding if the head is tied.
        """
        if not self.is_shared:
            yield from self.format.checkpoint_tensors(
                name, self.vocab_size, self.hidden_size, partial(self.weight.copy_rows, 0)
            )
