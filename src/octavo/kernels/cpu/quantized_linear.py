"""Linear layers over int8 and int4 weights: products of whole numbers, with what follows computed in registers.

Activations are float32 and are rounded to int8, each row (token) with a scale of its own: its largest magnitude becomes
127. Sums of products are exact (those of int4 within a group) and are scaled in float32. A row with a NaN or an
infinity gives NaN everywhere. A row of the result does not depend on the other rows, nor on the number of threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import check_float32, check_token_ids, describe
from octavo.kernels.cpu.loading import load_native

if TYPE_CHECKING:
    from octavo.kernels.cpu import _native


class QuantizedRows:
    """Activations ``[num_tokens, size]`` that were rounded to int8 once, for several weights.

    Attributes:
        shape: of the activations.
    """

    __slots__ = ("_buffer", "shape")

    def __init__(self, x: Tensor) -> None:
        num_tokens, size = x.shape
        check_float32(x, "x", (num_tokens, size))
        native = load_native()
        self.shape = (num_tokens, size)
        self._buffer = torch.empty(native.quantized_rows_bytes(num_tokens, size), dtype=torch.uint8)
        native.quantize_rows(x.data_ptr(), num_tokens, size, x.stride(0), self._buffer.data_ptr())

    @property
    def address(self) -> int:
        """Where the kernels find them."""
        return self._buffer.data_ptr()

    def read(self) -> tuple[Tensor, Tensor]:
        """Return the values ``[num_tokens, size]`` int8 and the scales ``[num_tokens]`` float32."""
        num_tokens, size = self.shape
        stride = (-(-size // 64) | 1) * 64
        end = num_tokens * stride
        values = self._buffer[:end].view(torch.int8).view(num_tokens, stride)
        return values[:, :size], self._buffer[end : end + 4 * num_tokens].view(torch.float32)


class _PackedQuantizedWeight(ABC):
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

    @abstractmethod
    def _multiply(self, *arguments: int) -> None: ...

    def _check_rows(self, first_row: int, num_rows: int) -> None:
        if not 0 <= first_row <= self.out_features - num_rows:
            raise ValueError(f"rows {first_row} to {first_row + num_rows} of a weight with {self.out_features} rows")


class PackedInt8Weight(_PackedQuantizedWeight):
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
        _check_part(values, "values", torch.int8, (num_rows, self.in_features))
        _check_part(scales, "scales", torch.float32, (num_rows,))
        self._check_rows(first_row, num_rows)
        values, scales = _rows_in_place(values), scales.contiguous()
        self.handle.fill(values.data_ptr(), values.stride(0), scales.data_ptr(), first_row, num_rows)

    def unpack(self) -> tuple[Tensor, Tensor]:
        """Return the values ``[out_features, in_features]`` int8 and the scales ``[out_features]`` float32."""
        values = torch.empty((self.out_features, self.in_features), dtype=torch.int8)
        scales = torch.empty(self.out_features)
        self.handle.read(0, self.out_features, values.data_ptr(), scales.data_ptr())
        return values, scales

    def _multiply(self, *arguments: int) -> None:
        load_native().int8_linear(self.handle, *arguments)


def pack_int8(values: Tensor, scales: Tensor, *, gated: bool = False) -> PackedInt8Weight:
    """Return a packed copy of an int8 weight, whose tensors are as :meth:`PackedInt8Weight.fill` takes them."""
    out_features, in_features = values.shape
    packed = PackedInt8Weight(out_features, in_features, gated=gated)
    packed.fill(0, values, scales)
    return packed


class PackedInt4Weight(_PackedQuantizedWeight):
    """``(values - zeros) * scales`` with a scale, and perhaps a zero point, for each group of inputs, packed.

    At first all zeros. It owns its memory.

    Args:
        group_size: inputs that share a scale: 32, 64 or 128; it divides ``in_features``.
        scale_dtype: of the scales, float16 or float32; they are kept as they are.
        has_zeros: whether there are zero points; otherwise all are 8.
        gated: rows are those of a gate and then as many of ``up``, for :func:`int4_linear_silu_and_mul`.

    Raises:
        ValueError: such a weight cannot be packed.
    """

    __slots__ = ("group_size", "has_zeros", "scale_dtype")

    handle: _native.Int4Matrix

    def __init__(
        self,
        out_features: int,
        in_features: int,
        *,
        group_size: int,
        scale_dtype: torch.dtype = torch.float16,
        has_zeros: bool = False,
        gated: bool = False,
    ) -> None:
        super().__init__(out_features, in_features, gated)
        self.group_size = group_size
        self.scale_dtype = scale_dtype
        self.has_zeros = has_zeros
        dtype_name = str(scale_dtype).removeprefix("torch.")
        self.handle = load_native().pack_int4(out_features, in_features, group_size, dtype_name, has_zeros, gated)

    def fill(self, first_row: int, values: Tensor, scales: Tensor, zeros: Tensor | None = None) -> None:
        """Copy rows to ``first_row`` and those after it.

        Args:
            values: ``[n, in_features / 2]`` uint8: two values a byte, the even input in the low four bits.
            scales: ``[n, in_features / group_size]``, of this weight's dtype of scales.
            zeros: uint8 of the same shape, from 0 to 15, if this weight has zero points; otherwise None.
        """
        num_rows = values.shape[0]
        groups = (num_rows, self.in_features // self.group_size)
        _check_part(values, "values", torch.uint8, (num_rows, self.in_features // 2))
        _check_part(scales, "scales", self.scale_dtype, groups)
        if (zeros is not None) != self.has_zeros:
            raise TypeError(f"this weight has {'' if self.has_zeros else 'no '}zero points")
        if zeros is not None:
            _check_part(zeros, "zeros", torch.uint8, groups)
            zeros = zeros.contiguous()
        self._check_rows(first_row, num_rows)
        values, scales = values.contiguous(), scales.contiguous()
        zeros_address = 0 if zeros is None else zeros.data_ptr()
        self.handle.fill(values.data_ptr(), scales.data_ptr(), zeros_address, first_row, num_rows)

    def unpack(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, scales and zeros of all rows, as :meth:`fill` takes them."""
        groups = (self.out_features, self.in_features // self.group_size)
        values = torch.empty((self.out_features, self.in_features // 2), dtype=torch.uint8)
        scales = torch.empty(groups, dtype=self.scale_dtype)
        zeros = torch.empty(groups, dtype=torch.uint8) if self.has_zeros else None
        zeros_address = 0 if zeros is None else zeros.data_ptr()
        self.handle.read(0, self.out_features, values.data_ptr(), scales.data_ptr(), zeros_address)
        return values, scales, zeros

    def _multiply(self, *arguments: int) -> None:
        load_native().int4_linear(self.handle, *arguments)


def pack_int4(values: Tensor, scales: Tensor, zeros: Tensor | None = None, *, gated: bool = False) -> PackedInt4Weight:
    """Return a packed copy of an int4 weight, whose tensors are as :meth:`PackedInt4Weight.fill` takes them."""
    out_features, in_features = len(values), 2 * values.shape[1]
    packed = PackedInt4Weight(
        out_features,
        in_features,
        group_size=in_features // scales.shape[1],
        scale_dtype=scales.dtype,
        has_zeros=zeros is not None,
        gated=gated,
    )
    packed.fill(0, values, scales, zeros)
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
    return _linear(x, weight, bias, residual, out)


def int8_linear_silu_and_mul(
    x: Tensor | QuantizedRows, weight: PackedInt8Weight, bias: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Return ``silu(gate) * up`` for ``[gate, up] = x @ weight.T + bias``, without writing gate and up to memory.

    Args:
        x: ``[num_tokens, in_features]``.
        weight: gated, with ``2 * size`` rows.
        bias: ``[2 * size]``.
        out: where the result is written, ``[num_tokens, size]``; otherwise a new tensor.
    """
    return _linear_silu_and_mul(x, weight, bias, out)


def int4_linear(
    x: Tensor | QuantizedRows,
    weight: PackedInt4Weight,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return ``x @ weight.T + bias + residual``, with arguments as those of :func:`int8_linear`."""
    return _linear(x, weight, bias, residual, out)


def int4_linear_silu_and_mul(
    x: Tensor | QuantizedRows, weight: PackedInt4Weight, bias: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Return ``silu(gate) * up``, with arguments as those of :func:`int8_linear_silu_and_mul`."""
    return _linear_silu_and_mul(x, weight, bias, out)


def int8_embedding(token_ids: Tensor, weight: PackedInt8Weight) -> Tensor:
    """Return rows of a packed table, times their scales.

    Args:
        token_ids: ``[num_tokens]`` int64.

    Returns:
        ``[num_tokens, in_features]`` float32.

    Raises:
        IndexError: an id is not a row of the table.
    """
    check_token_ids(token_ids)
    token_ids = token_ids.contiguous()
    out = torch.empty((token_ids.shape[0], weight.in_features))
    weight.handle.gather(token_ids.data_ptr(), token_ids.shape[0], out.data_ptr(), out.stride(0))
    return out


def _linear(
    x: Tensor | QuantizedRows,
    weight: _PackedQuantizedWeight,
    bias: Tensor | None,
    residual: Tensor | None,
    out: Tensor | None,
) -> Tensor:
    if weight.gated:
        raise ValueError("this weight is gated; the function with silu_and_mul takes it")
    return _run(x, weight, weight.out_features, bias, residual, out)


def _linear_silu_and_mul(
    x: Tensor | QuantizedRows, weight: _PackedQuantizedWeight, bias: Tensor | None, out: Tensor | None
) -> Tensor:
    if not weight.gated:
        raise ValueError("this weight is not gated; the function without silu_and_mul takes it")
    return _run(x, weight, weight.out_features // 2, bias, None, out)


def _run(
    x: Tensor | QuantizedRows,
    weight: _PackedQuantizedWeight,
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
        address, stride, quantized = 0, 0, x.address
    if out is None:
        out = torch.empty((num_tokens, width))
    else:
        check_float32(out, "out", (num_tokens, width))
    if bias is not None:
        check_float32(bias, "bias", (weight.out_features,))
    if residual is not None:
        check_float32(residual, "residual", (num_tokens, width))
    weight._multiply(
        address,
        stride,
        quantized,
        num_tokens,
        out.data_ptr(),
        out.stride(0),
        0 if bias is None else bias.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        0 if residual is None else residual.stride(0),
    )
    return out


def _check_part(tensor: Tensor, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype or tensor.shape != shape or not tensor.is_cpu:
        raise TypeError(f"{name} must be {dtype} {list(shape)} on the CPU, not {describe(tensor)}")


def _rows_in_place(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy if the numbers of a row do not lie side by side."""
    return tensor if tensor.stride(1) == 1 else tensor.contiguous()
