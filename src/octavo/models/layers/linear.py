"""Linear projections: one, or several of the same input merged into one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from octavo import kernels
from octavo.errors import ModelError
from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.quantization.base import LinearWeight
from octavo.models.quantization.native import allocate_weight


class MergedLinear(nn.Module):
    """Projections of the same input, computed as one product; the checkpoint has a weight for each.

    If the weights' format does not allow that, each projection is a product of its own.

    Args:
        input_size: size of the input.
        output_sizes: size of each projection, in the order of the output.
        bias: whether each projection has a bias.
        is_fused: the checkpoint has all projections in one weight, too.
    """

    is_gated = False

    def __init__(
        self,
        input_size: int,
        output_sizes: Sequence[int],
        *,
        bias: bool,
        placement: Placement,
        is_fused: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_sizes = tuple(output_sizes)
        self.checkpoint_sizes = (sum(output_sizes),) if is_fused else self.output_sizes
        self.format = placement.linear_format
        is_merged = self.format.merges or is_fused
        sizes = (sum(output_sizes),) if is_merged else self.output_sizes
        is_gated = self.is_gated and is_merged
        weights = [allocate_weight(self.format, size, input_size, placement, gated=is_gated) for size in sizes]
        self.weights = cast("Sequence[LinearWeight]", nn.ModuleList(weights))
        self.bias = placement.parameter(sum(output_sizes)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``[num_tokens, input_size]`` to ``[num_tokens, sum(output_sizes)]``."""
        if len(self.weights) == 1:
            merged: Tensor = self.weights[0](x, self.bias)
            return merged
        parts = torch.cat([weight(x) for weight in self.weights], dim=-1)
        return parts if self.bias is None else parts + self.bias

    def checkpoint_tensors(self, *names: str) -> Iterator[CheckpointTensor]:
        """Declare the weight, and the bias if there is one, of each projection named, or of the fused one."""
        start = 0
        for index, (name, size) in enumerate(zip(names, self.checkpoint_sizes, strict=True)):
            weight, first_row = (self.weights[0], start) if len(self.weights) == 1 else (self.weights[index], 0)
            yield from self.format.checkpoint_tensors(name, size, self.input_size, partial(weight.copy_rows, first_row))
            if self.bias is not None:
                yield CheckpointTensor.into(f"{name}.bias", self.bias[start : start + size])
            elif self.format.has_needless_biases:
                bias = f"{name}.bias"
                yield CheckpointTensor(bias, (size,), partial(_check_zero, bias), is_required=False)
            start += size


class GatedLinear(MergedLinear):
    """The gate and up projections of SwiGLU (arXiv:2002.05202), up to the product: ``silu(gate(x)) * up(x)``."""

    is_gated = True

    def __init__(
        self, input_size: int, output_size: int, *, bias: bool, placement: Placement, is_fused: bool = False
    ) -> None:
        super().__init__(input_size, (output_size, output_size), bias=bias, placement=placement, is_fused=is_fused)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """``[num_tokens, input_size]`` to ``[num_tokens, output_size]``.

        Args:
            added: ``[num_tokens, 2 * output_size]``, added to what both projections give.
        """
        if len(self.weights) == 1:
            return self.weights[0].silu_and_mul(x, self.bias, added)
        gate_and_up = super().forward(x)
        return kernels.silu_and_mul(gate_and_up if added is None else gate_and_up + added)


class GeluGatedLinear(GatedLinear):
    """The gate and up projections of GeGLU (arXiv:2002.05202): ``gelu(gate(x)) * up(x)``, the GELU by its tanh form."""

    is_gated = False  # the packed form is for silu

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """As that of ``GatedLinear``."""
        gate_and_up = MergedLinear.forward(self, x)
        return kernels.gelu_tanh_and_mul(gate_and_up if added is None else gate_and_up + added)


GATED_LINEARS: Mapping[str, type[GatedLinear]] = {"silu": GatedLinear, "gelu_tanh": GeluGatedLinear}


class Linear(MergedLinear):
    """One projection."""

    def __init__(self, input_size: int, output_size: int, *, bias: bool, placement: Placement) -> None:
        super().__init__(input_size, (output_size,), bias=bias, placement=placement)


def _check_zero(name: str, bias: Tensor) -> None:
    if bias.count_nonzero():
        raise ModelError(f"The checkpoint has a bias {name}, but by its config.json the model has none there.")
