"""Where the parameters of a model live, and the checkpoint tensors that fill them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Placement:
    """Type and device of parameters; passed to every layer, so that nothing is made elsewhere first and then moved."""

    dtype: torch.dtype
    device: torch.device

    def parameter(self, *shape: int) -> nn.Parameter:
        """Return a parameter whose memory is reserved but not yet written."""
        return nn.Parameter(torch.empty(shape, dtype=self.dtype, device=self.device), requires_grad=False)


@dataclass(frozen=True, slots=True)
class CheckpointTensor:
    """One tensor that a layer takes from a checkpoint.

    Attributes:
        name: as the checkpoint calls it.
        destination: the part of a parameter that it fills; the checkpoint's tensor must have the same shape.
    """

    name: str
    destination: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the checkpoint's tensor must have."""
        return tuple(self.destination.shape)
