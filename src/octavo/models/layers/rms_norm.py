"""Normalisation before each block of a decoder layer, and of heads in Qwen3."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from octavo import kernels
from octavo.models.layers.parameters import CheckpointTensor, Placement


class RMSNorm(nn.Module):
    """Root mean square normalisation with a learned scale, fused with the addition of the residual.

    Args:
        offset: what is added to the checkpoint's scale.
    """

    def __init__(self, size: int, eps: float, placement: Placement, *, offset: float = 0.0) -> None:
        super().__init__()
        self.eps = eps
        self.offset = offset
        self.weight = placement.parameter(size)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the normalised ``x + residual`` and the sum itself, each of the shape of ``x``: ``[..., size]``."""
        return kernels.rms_norm(x, self.weight, self.eps, residual)

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the scale."""
        yield CheckpointTensor(
            f"{name}.weight",
            tuple(self.weight.shape),
            lambda scale: self.weight.copy_(scale.to(self.weight.dtype) + self.offset),
        )
