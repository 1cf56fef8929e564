"""The weight of a linear layer in each format that a model can hold, as plain tensors.

A weight knows what its numbers mean; how it comes out of a checkpoint is the business of a ``LinearFormat``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavo import kernels
from octavo.kernels.reference.quantized_linear import dequantize_int4, dequantize_int8, dequantize_int8_groups
from octavo.models.layers.parameters import CheckpointTensor, Placement

GROUP_SIZES = (128, 64, 32)
"""Inputs that may share a scale in ``Int4Weight`` and ``Int8GroupsWeight``."""


class LinearWeight(nn.Module, ABC):
    """A matrix ``[out_features, in_features]``. The first dimension of all its tensors is ``out_features``."""

    @abstractmethod
    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return ``x @ weight.T + bias``: ``[num_tokens, in_features]`` to ``[num_tokens, out_features]``."""

    def silu_and_mul(self, x: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        """Return ``silu(gate) * up``, the first and the second half of the result of ``forward``.

        Args:
            added: ``[num_tokens, out_features]``, added to both before that.
        """
        gate_and_up = self(x, bias)
        return kernels.silu_and_mul(gate_and_up if added is None else gate_and_up + added)

    @property
    def num_bytes(self) -> int:
        """Memory that the weight takes."""
        return sum(parameter.nbytes for parameter in self.parameters())

    @abstractmethod
    def dequantize(self) -> Tensor:
        """Return the matrix that this weight stands for, in float32."""

    @abstractmethod
    def fill_with_noise(self, std: float, generator: torch.Generator) -> None:
        """Make the matrix random, with entries of mean near 0 and standard deviation ``std``."""

    def copy_rows(self, first_row: int, rows: LinearWeight) -> None:
        """Take over the rows of a weight of the same format, from ``first_row`` on."""
        for name, destination in self.named_parameters():
            source = rows.get_parameter(name)
            destination[first_row : first_row + len(source)].copy_(source)


class LookupWeight(LinearWeight):
    """A matrix whose rows can be looked up: an embedding, and perhaps the head that is tied to it."""

    @abstractmethod
    def lookup(self, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the rows ``[num_tokens, in_features]`` of int64 ``[num_tokens]``."""


class DenseWeight(LookupWeight):
    """The matrix itself: ``weight`` ``[out_features, in_features]`` in the model's type."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = _parameter(weight)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, self.weight, bias)

    def lookup(self, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
        return F.embedding(token_ids, self.weight).to(dtype)

    def dequantize(self) -> Tensor:
        return self.weight.float()

    def fill_with_noise(self, std: float, generator: torch.Generator) -> None:
        self.weight.normal_(std=std, generator=generator)


class Int8Weight(LookupWeight):
    """``values * scales``, computed with activations that are rounded to int8 too, token by token.

    Args:
        values: ``[out_features, in_features]`` int8, from -127 to 127.
        scales: ``[out_features]`` float32.
    """

    def __init__(self, values: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.values = _parameter(values)
        self.scales = _parameter(scales)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return kernels.int8_linear(x, self.values, self.scales, bias)

    def lookup(self, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
        return dequantize_int8(self.values[token_ids], self.scales[token_ids]).to(dtype)

    def dequantize(self) -> Tensor:
        return dequantize_int8(self.values, self.scales)

    def fill_with_noise(self, std: float, generator: torch.Generator) -> None:
        self.values.random_(-127, 128, generator=generator)
        self.scales.fill_(std / _std_of_uniform(255))


class GroupedWeight(LookupWeight):
    """``(values - zeros) * scales`` with a scale for each group of inputs that lie side by side.

    With offsets it is ``values * scales - offsets``; then there are no zero points.
    """

    levels: ClassVar[int]

    def __init__(
        self, values: Tensor, scales: Tensor, zeros: Tensor | None = None, offsets: Tensor | None = None
    ) -> None:
        super().__init__()
        self.values = _parameter(values)
        self.scales = _parameter(scales)
        self.zeros = None if zeros is None else _parameter(zeros)
        self.offsets = None if offsets is None else _parameter(offsets)

    @property
    @abstractmethod
    def group_size(self) -> int:
        """Inputs that share a scale: 32, 64 or 128, of 8 bits also 16."""

    def lookup(self, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
        rows = {name: part[token_ids] for name, part in self.named_parameters()}
        return type(self)(**rows).dequantize().to(dtype)

    def fill_with_noise(self, std: float, generator: torch.Generator) -> None:
        self.values.random_(0, 256, generator=generator)  # of four bits: two values at once
        self.scales.fill_(std / _std_of_uniform(self.levels))
        if self.zeros is not None:
            self.zeros.fill_(self.levels // 2)
        if self.offsets is not None:
            self.offsets.copy_(self.scales * (self.levels // 2))


class Int4Weight(GroupedWeight):
    """Four bits a value; activations stay as they are.

    Args:
        values: ``[out_features, in_features / 2]`` uint8: two values a byte, the even input in the low four bits.
        scales: ``[out_features, in_features / group_size]`` float16 or float32.
        zeros: uint8 of the same shape, from 0 to 15; None if all are 8.
        offsets: of the type and shape of ``scales``.
    """

    levels = 16

    @property
    def group_size(self) -> int:
        return 2 * self.values.shape[1] // self.scales.shape[1]

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return kernels.int4_linear(x, self.values, self.scales, self.zeros, bias, self.offsets)

    def dequantize(self) -> Tensor:
        return dequantize_int4(self.values, self.scales, self.zeros, self.offsets)


class Int8GroupsWeight(GroupedWeight):
    """Eight bits a value with a scale for each group; activations stay as they are.

    Args:
        values: ``[out_features, in_features]`` uint8.
        scales: ``[out_features, in_features / group_size]`` float16 or float32.
        zeros: uint8 of the same shape; None if all are 128.
        offsets: of the type and shape of ``scales``.
    """

    levels = 256

    @property
    def group_size(self) -> int:
        return self.values.shape[1] // self.scales.shape[1]

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return kernels.int8_groups_linear(x, self.values, self.scales, self.zeros, bias, self.offsets)

    def dequantize(self) -> Tensor:
        return dequantize_int8_groups(self.values, self.scales, self.zeros, self.offsets)


class InputOrderWeight(LinearWeight):
    """A weight whose inputs stand in another order than those of the layer.

    Args:
        weight: the matrix, with its inputs in the other order.
        input_order: ``[in_features]`` int64, for each input of ``weight`` which input of the layer it is.
    """

    def __init__(self, weight: LinearWeight, input_order: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.input_order = _parameter(input_order)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        result: Tensor = self.weight(x[:, self.input_order], bias)
        return result

    def copy_rows(self, first_row: int, rows: LinearWeight) -> None:
        self.weight.copy_rows(first_row, cast("InputOrderWeight", rows).weight)
        self.input_order.copy_(rows.get_parameter("input_order"))

    def dequantize(self) -> Tensor:
        return self.weight.dequantize()[:, self.input_order.argsort()]

    def fill_with_noise(self, std: float, generator: torch.Generator) -> None:
        self.weight.fill_with_noise(std, generator)
        torch.arange(len(self.input_order), out=self.input_order)


class LinearFormat(ABC):
    """How linear weights are held, and how they come out of a checkpoint."""

    @property
    def merges(self) -> bool:
        """Whether projections of the same input can be rows of one weight."""
        return True

    @property
    def allows_lookup(self) -> bool:
        """Whether its weights are each a ``LookupWeight``."""
        return False

    @property
    def holds_embedding(self) -> bool:
        """Whether an embedding that is not the head has this format, too."""
        return False

    @property
    def has_needless_biases(self) -> bool:
        """Whether checkpoints may have biases of zeros that the model does not know."""
        return False

    @abstractmethod
    def allocate(self, output_size: int, input_size: int, placement: Placement) -> LinearWeight:
        """Return a weight whose memory is reserved but not yet written.

        Raises:
            ModelError: a matrix of this shape has no such format.
        """

    @abstractmethod
    def checkpoint_tensors(
        self, name: str, output_size: int, input_size: int, store: Callable[[LinearWeight], None]
    ) -> Iterator[CheckpointTensor]:
        """Declare the tensors of one projection.

        Args:
            name: of the projection, such as ``model.layers.0.mlp.up_proj``.
            store: is called once with the projection's weight, as soon as all its tensors have been taken.
        """


class Dense(LinearFormat):
    """Not quantised: one tensor ``weight`` of a floating-point type, copied as it comes."""

    @property
    def allows_lookup(self) -> bool:
        return True

    def allocate(self, output_size: int, input_size: int, placement: Placement) -> LinearWeight:
        return DenseWeight(
            placement.parameter(output_size, input_size, dtype=placement.matrix_dtype or placement.dtype)
        )

    def checkpoint_tensors(
        self, name: str, output_size: int, input_size: int, store: Callable[[LinearWeight], None]
    ) -> Iterator[CheckpointTensor]:
        yield CheckpointTensor(f"{name}.weight", (output_size, input_size), lambda tensor: store(DenseWeight(tensor)))


def _parameter(tensor: Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)


def _std_of_uniform(levels: int) -> float:
    """Return the standard deviation of whole numbers that are drawn evenly from ``levels`` neighbours."""
    return float(((levels**2 - 1) / 12) ** 0.5)
