"""Linear projections: one, or several of the same input merged into one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from octavo.models.layers.parameters import CheckpointTensor, Placement


class MergedLinear(nn.Module):
    """Projections of the same input, computed as one product; the checkpoint has a weight for each.

    Args:
        input_size: size of the input.
        output_sizes: size of each projection, in the order of the output.
        bias: whether each projection has a bias.
    """

    def __init__(self, input_size: int, output_sizes: Sequence[int], *, bias: bool, placement: Placement) -> None:
        super().__init__()
        self.output_sizes = tuple(output_sizes)
        self.weight = placement.parameter(sum(output_sizes), input_size)
        self.bias = placement.parameter(sum(output_sizes)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``[num_tokens, input_size]`` to ``[num_tokens, sum(output_sizes)]``."""
        return F.linear(x, self.weight, self.bias)

    def checkpoint_tensors(self, *names: str) -> Iterator[CheckpointTensor]:
        """Declare the weight, and the bias if there is one, of each projection named."""
        start = 0
        for name, size in zip(names, self.output_sizes, strict=True):
            yield CheckpointTensor(f"{name}.weight", self.weight[start : start + size])
            if self.bias is not None:
                yield CheckpointTensor(f"{name}.bias", self.bias[start : start + size])
            start += size


class Linear(MergedLinear):
    """One projection."""

    def __init__(self, input_size: int, output_size: int, *, bias: bool, placement: Placement) -> None:
        super().__init__(input_size, (output_size,), bias=bias, placement=placement)
