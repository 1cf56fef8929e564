"""Normalisation after each block of an encoder layer."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from octavo.models.layers.parameters import CheckpointTensor, Placement


class LayerNorm(nn.Module):
    """Layer normalisation (arXiv:1607.06450) with a learned scale and shift."""

    def __init__(self, size: int, eps: float, placement: Placement) -> None:
        super().__init__()
        self.eps = eps
        self.weight = placement.parameter(size)
        self.bias = placement.parameter(size)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., size]`` to the same."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare scale and shift."""
        yield CheckpointTensor.into(f"{name}.weight", self.weight)
        yield CheckpointTensor.into(f"{name}.bias", self.bias)
