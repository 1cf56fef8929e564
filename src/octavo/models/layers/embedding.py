"""From token ids to vectors, and from vectors to logits."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from octavo.models.layers.parameters import CheckpointTensor, Placement


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
        yield CheckpointTensor(f"{name}.weight", self.weight)


class LMHead(nn.Module):
    """Logits of the next token. A tied head uses the table of the embedding and takes nothing from the checkpoint."""

    def __init__(self, embedding: Embedding, *, tied: bool, placement: Placement) -> None:
        super().__init__()
        self.tied = tied
        self.weight = embedding.weight if tied else placement.parameter(*embedding.weight.shape)

    def forward(self, hidden: Tensor) -> Tensor:
        """``[num_tokens, hidden_size]`` to float32 ``[num_tokens, vocab_size]``."""
        return F.linear(hidden, self.weight).float()

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the matrix, unless it is the embedding's."""
        if not self.tied:
            yield CheckpointTensor(f"{name}.weight", self.weight)
