"""Where the parameters of a model live, in which formats, and the checkpoint tensors that fill them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from octavo.models.quantization.base import LinearFormat

FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, slots=True)
class Placement:
    """Type, device and formats of parameters; passed to every layer, so that nothing is made elsewhere and then moved.

    Attributes:
        dtype: of activations, and of all parameters but the matrices.
        linear_format: of the linear layers in the decoder's layers.
        head_format: of the matrix that gives the logits.
        is_native: whether matrices are packed for the CPU's native kernels. Activations are float32 then.
        matrix_dtype: of matrices that are not quantised, if that is not ``dtype``.
        rounds_activations: whether native kernels round what they multiply with a bfloat16 matrix to bfloat16.
        rounds_attention: whether native kernels may round queries and weights of attention, too.
    """

    dtype: torch.dtype
    device: torch.device
    linear_format: LinearFormat
    head_format: LinearFormat
    is_native: bool = False
    matrix_dtype: torch.dtype | None = None
    rounds_activations: bool = False
    rounds_attention: bool = False

    def parameter(self, *shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
        """Return a parameter whose memory is reserved but not yet written."""
        return nn.Parameter(torch.empty(shape, dtype=dtype or self.dtype, device=self.device), requires_grad=False)


@dataclass(frozen=True, slots=True)
class CheckpointTensor:
    """One tensor that a layer takes from a checkpoint.

    Attributes:
        name: as the checkpoint calls it.
        shape: what the checkpoint's tensor must have.
        take: stores the tensor, which is on the model's device, in the model's own type and format. Raises ModelError
            if its contents cannot be stored.
        dtypes: what the checkpoint's tensor may have.
        is_required: whether a checkpoint without it is incomplete.
    """

    name: str
    shape: tuple[int, ...]
    take: Callable[[Tensor], object]
    dtypes: tuple[torch.dtype, ...] = FLOAT_DTYPES
    is_required: bool = True

    @classmethod
    def into(cls, name: str, destination: Tensor) -> CheckpointTensor:
        """Return the declaration of a tensor that is copied to ``destination``, a parameter or a part of one."""
        return cls(name, tuple(destination.shape), destination.copy_)
