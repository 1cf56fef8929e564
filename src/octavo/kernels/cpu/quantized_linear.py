"""Linear layers over int8 weights: products of whole numbers, with what follows computed in registers.

Activations are float32 and are rounded to int8 with a scale for each row (token), or for each group of inputs of a row
if the weight has groups: the largest magnitude becomes 127. Sums of products are exact and are scaled in float32. A row
with a NaN or an infinity gives NaN everywhere. A row of the result does not depend on the other rows, nor on the number
of threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import check_float32, check_rows, describe
from octavo.kernels.cpu.linear_output import gather_rows, prepare_output
from octavo.kernels.cpu.loading import load_native

if TYPE_CHECKING:
    from octavo.kernels.cpu import _native


class QuantizedRows:
    """Activations ``[num_tokens, size]`` that were rounded to int8 once, for several weights.

    Args:
        x: float32.
        group_size: inputs that share a scale: as many as in the weights, or None for all inputs of a token.

    Attributes:
        shape: of the activations.
    """

    __slots__ = ("_buffer", "group_size", "shape")

    def __init__(self, x: Tensor, group_size: int | None = None) -> None:
        num_tokens, size = x.shape
        check_float32(x, "x", (num_tokens, size))
        native = load_native()
        self.shape = (num_tokens, size)
        self.group_size = group_size
        shape = (num_tokens, size, group_size or size)
        self._buffer = torch.empty(native.quantized_rows_bytes(*shape), dtype=torch.uint8)
        native.quantize_rows(x.data_ptr(), *shape, x.stride(0), self._buffer.data_ptr())

    @property
    def address(self) -> int:
        """Where the kernels find them."""
        return self._buffer.data_ptr()

    def read(self) -> tuple[Tensor, Tensor]:
        """Return the values ``[num_tokens, size]`` int8 and the scales ``[num_tokens, num_groups]`` float32."""
        num_tokens, size = self.shape
        stride = (-(-size // 64) | 1) * 64
        end = num_tokens * stride
        values = self._buffer[:end].view(torch.int8).view(num_tokens, stride)
        num_groups = -(-size // (self.group_size or size))
        scales = self._buffer[end : end + 4 * num_groups * num_tokens].view(torch.float32)
        return values[:, :size], scales.view(num_groups, num_tokens).T


class PackedQuantizedWeight(ABC):
    """A quantised weight ``[out_features, in_features]`` in the order in which the kernels read it."""

    __slots__ = ("gated", "handle", "in_features", "out_features")

    handle: Any

    def __init__(self, out_features: int, in_features: int, gated: bool) -> None:
        self.out_features = out_features
        self.in_features = in_features
        self.gated = gated

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, including what rounds it up to whole panels."""
        num_bytes: int = self.handle.num_bytes
        return num_bytes

    @property
    @abstractmethod
    def rounding_group_size(self) -> int | None:
        """Inputs of a token that are rounded with one scale; None is all."""

    @abstractmethod
    def multiply(self, *arguments: int) -> None:
        """Call the kernel of this format with the arguments that all of them take."""


class PackedInt8Weight(PackedQuantizedWeight):
    """``values * scales`` with a scale for each row, packed; at first all zeros. It owns its memory.

    Args:
        gated: rows are those of a gate and then as many of ``up``, for :func:`int8_linear_silu_and_mul`.

    Raises:
        ValueError: a size is negative, a gated weight has an odd number of rows, or there are more than 131,072 inputs.
    """

    __slots__ = ()

    handle: _native.Int8Matrix

    def __init__(self, out_features: int, in_features: int, *, gated: bool = False) -> None:
        super().__init__(out_features, in_features, gated)
        self.handle = load_native().pack_int8(out_features, in_features, gated)

    def fill(self, first_row: int, values: Tensor, scales: Tensor) -> None:
        """Copy rows to ``first_row`` and those after it.

        Args:
            values: ``[n, in_features]`` int8.
            scales: ``[n]`` float32.
        """
        num_rows = values.shape[0]
        check_part(values, "values", torch.int8, (num_rows, self.in_features))
        check_part(scales, "scales", torch.float32, (num_rows,))
        check_rows(first_row, num_rows, self.out_features)
        values, scales = _rows_in_place(values), scales.contiguous()
        self.handle.fill(values.data_ptr(), values.stride(0), scales.data_ptr(), first_row, num_rows)

    def unpack(self) -> tuple[Tensor, Tensor]:
        """Return the values ``[out_features, in_features]`` int8 and the scales ``[out_features]`` float32."""
        values = torch.empty((self.out_features, self.in_features), dtype=torch.int8)
        scales = torch.empty(self.out_features)
        self.handle.read(0, self.out_features, values.data_ptr(), scales.data_ptr())
        return values, scales

    @property
    def rounding_group_size(self) -> None:
        return None

    def multiply(self, *arguments: int) -> None:
        load_native().int8_linear(self.handle, *arguments)


def pack_int8(values: Tensor, scales: Tensor, *, gated: bool = False) -> PackedInt8Weight:
    """Return a packed copy of an int8 weight, whose tensors are as :meth:`PackedInt8Weight.fill` takes them."""
    out_features, in_features = values.shape
    packed = PackedInt8Weight(out_features, in_features, gated=gated)
    packed.fill(0, values, scales)
    return packed


def int8_linear(
    x: Tensor | QuantizedRows,
    weight: PackedInt8Weight,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return ``x @ weight.T + bias + residual``.

    Args:
        x: ``[num_tokens, in_features]``.
        weight: not gated.
        bias: ``[out_features]``.
        residual: ``[num_tokens, out_features]``; may be ``out``, which is then added to.
        out: where the result is written, ``[num_tokens, out_features]``; otherwise a new tensor.
    """
    return quantized_linear(x, weight, bias, residual, out)


def int8_linear_silu_and_mul(
    x: Tensor | QuantizedRows,
    weight: PackedInt8Weight,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    added: Tensor | None = None,
) -> Tensor:
    """Return ``silu(gate) * up`` for ``[gate, up] = x @ weight.T + bias + added``, without writing both to memory.

    Args:
        x: ``[num_tokens, in_features]``.
        weight: gated, with ``2 * size`` rows.
        bias: ``[2 * size]``.
        out: where the result is written, ``[num_tokens, size]``; otherwise a new tensor.
        added: ``[num_tokens, 2 * size]``.
    """
    return quantized_linear_silu_and_mul(x, weight, bias, out, added)


def int8_embedding(token_ids: Tensor, weight: PackedInt8Weight) -> Tensor:
    """Return rows of a packed table, times their scales.

    Args:
        token_ids: ``[num_tokens]`` int64.

    Returns:
        ``[num_tokens, in_features]`` float32.

    Raises:
        IndexError: an id is not a row of the table.
    """
    return gather_rows(token_ids, weight.in_features, weight.handle.gather)


def quantized_linear(
    x: Tensor | QuantizedRows,
    weight: PackedQuantizedWeight,
    bias: Tensor | None,
    residual: Tensor | None,
    out: Tensor | None,
) -> Tensor:
    """Compute :func:`int8_linear` over a weight of any quantised format."""
    if weight.gated:
        raise ValueError("this weight is gated; the function with silu_and_mul takes it")
    return _run(x, weight, weight.out_features, bias, residual, out)


def quantized_linear_silu_and_mul(
    x: Tensor | QuantizedRows,
    weight: PackedQuantizedWeight,
    bias: Tensor | None,
    out: Tensor | None,
    added: Tensor | None,
) -> Tensor:
    """Compute :func:`int8_linear_silu_and_mul` over a weight of any quantised format."""
    if not weight.gated:
        raise ValueError("this weight is not gated; the function without silu_and_mul takes it")
    return _run(x, weight, weight.out_features // 2, bias, added, out)


def _run(
    x: Tensor | QuantizedRows,
    weight: PackedQuantizedWeight,
    width: int,
    bias: Tensor | None,
    residual: Tensor | None,
    out: Tensor | None,
) -> Tensor:
    num_tokens = x.shape[0]
    if isinstance(x, Tensor):
        check_float32(x, "x", (num_tokens, weight.in_features))
        address, stride, quantized = x.data_ptr(), x.stride(0), 0
    else:
        if x.shape[1] != weight.in_features:
            raise TypeError(f"x must be [{num_tokens}, {weight.in_features}], not {list(x.shape)}")
        if x.group_size != weight.rounding_group_size:
            raise TypeError(f"x must be rounded in groups of {weight.rounding_group_size}, not {x.group_size}")
        address, stride, quantized = 0, 0, x.address
    out, output_arguments = prepare_output((num_tokens, width), weight.out_features, bias, residual, out)
    weight.multiply(
        address,
        stride,
        quantized,
        num_tokens,
        *output_arguments,
    )
    return out


def check_part(tensor: Tensor, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Refuse a part of a weight that is not of this type and shape, on the CPU.

    Raises:
        TypeError: it is not.
    """
    if tensor.dtype != dtype or tensor.shape != shape or not tensor.is_cpu:
        raise TypeError(f"{name} must be {dtype} {list(shape)} on the CPU, not {describe(tensor)}")


def _rows_in_place(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy if the numbers of a row do not lie side by side."""
    return tensor if tensor.stride(1) == 1 else tensor.contiguous()
