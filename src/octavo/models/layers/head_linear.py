"""A small projection for each head."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from octavo.models.layers.parameters import Placement
from octavo.models.quantization.base import Dense, DenseWeight
from octavo.models.quantization.native import NativeDenseWeight, allocate_weight


class HeadLinear(nn.Module):
    """Each head's vector times a matrix of that head, never quantised.

    All heads are one product of torch, or one native product each: a row's bits then do not depend on the batch.
    """

    def __init__(self, num_heads: int, input_size: int, output_size: int, placement: Placement) -> None:
        super().__init__()
        self.num_heads, self.output_size = num_heads, output_size
        self.stacked = None if placement.is_native else placement.parameter(num_heads, output_size, input_size)
        num_weights = num_heads if placement.is_native else 0
        self.weights = nn.ModuleList(
            allocate_weight(Dense(), output_size, input_size, placement) for _ in range(num_weights)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[num_tokens, num_heads, input_size]`` to ``[num_tokens, num_heads, output_size]``."""
        if self.stacked is not None:
            return (x.transpose(0, 1) @ self.stacked.transpose(1, 2)).transpose(0, 1)
        output = torch.empty((len(x), self.num_heads, self.output_size))
        for head, weight in enumerate(self.weights):
            cast("NativeDenseWeight", weight)(x[:, head], None, output[:, head])
        return output

    def take(self, matrices: Tensor) -> None:
        """Store ``[num_heads, output_size, input_size]``."""
        if self.stacked is not None:
            self.stacked.copy_(matrices)
        for weight, matrix in zip(cast("list[NativeDenseWeight]", list(self.weights)), matrices, strict=False):
            weight.copy_rows(0, DenseWeight(matrix))
