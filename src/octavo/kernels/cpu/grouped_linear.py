"""Linear layers over int4 and int8 weights with a scale for each group of inputs.

Activations are rounded as in :mod:`octavo.kernels.cpu.quantized_linear`, with a scale for each token and group: an
input that is far larger than the others costs precision in its own group only. Sums of products are exact within a
group and are scaled and added up in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import address_of, check_rows, check_token_ids
from octavo.kernels.cpu.loading import load_native
from octavo.kernels.cpu.quantized_linear import (
    PackedQuantizedWeight,
    QuantizedRows,
    check_part,
    quantized_linear,
    quantized_linear_silu_and_mul,
)

if TYPE_CHECKING:
    from octavo.kernels.cpu import _native

Weight = TypeVar("Weight", bound="PackedGroupedWeight")


class PackedGroupedWeight(PackedQuantizedWeight):
    """A weight with a scale, and perhaps a zero point or an offset, for each group of inputs, packed.

    A value stands for ``(value - zero) * scale``, or with offsets for ``value * scale - offset``. Without either, the
    zero point is half of the values' range. At first all values, scales and shifts are zero. It owns its memory.

    Args:
        group_size: inputs that share a scale: 32, 64 or 128, of 8 bits also 16; it divides ``in_features``.
        scale_dtype: of the scales and offsets, float16 or float32; they are kept as they are.
        has_zeros: whether there are zero points.
        has_offsets: whether there are offsets.
        gated: rows are those of a gate and then as many of ``up``, for the functions with silu_and_mul.

    Raises:
        ValueError: such a weight cannot be packed.
    """

    __slots__ = ("group_size", "has_offsets", "has_zeros", "scale_dtype")

    BITS: ClassVar[int]

    handle: _native.GroupedMatrix

    def __init__(
        self,
        out_features: int,
        in_features: int,
        *,
        group_size: int,
        scale_dtype: torch.dtype = torch.float16,
        has_zeros: bool = False,
        has_offsets: bool = False,
        gated: bool = False,
    ) -> None:
        super().__init__(out_features, in_features, gated)
        if has_zeros and has_offsets:
            raise ValueError("a weight has zero points or offsets, not both")
        self.group_size = group_size
        self.scale_dtype = scale_dtype
        self.has_zeros = has_zeros
        self.has_offsets = has_offsets
        self.handle = load_native().pack_grouped(
            out_features,
            in_features,
            self.BITS,
            group_size,
            str(scale_dtype).removeprefix("torch."),
            "zeros" if has_zeros else "offsets" if has_offsets else "half",
            gated,
        )

    def fill(
        self,
        first_row: int,
        values: Tensor,
        scales: Tensor,
        zeros: Tensor | None = None,
        *,
        offsets: Tensor | None = None,
    ) -> None:
        """Copy rows to ``first_row`` and those after it.

        Args:
            values: uint8. Of int4: ``[n, in_features / 2]``, two values a byte, the even input in the low four bits; of
                int8: ``[n, in_features]``.
            scales: ``[n, in_features / group_size]``, of this weight's dtype of scales.
            zeros: uint8 of the same shape, in the values' range, if this weight has zero points; otherwise None.
            offsets: of the scales' shape and dtype, if this weight has offsets; otherwise None.
        """
        num_rows = values.shape[0]
        groups = (num_rows, self.in_features // self.group_size)
        check_part(values, "values", torch.uint8, (num_rows, self.in_features * self.BITS // 8))
        check_part(scales, "scales", self.scale_dtype, groups)
        if (zeros is not None) != self.has_zeros:
            raise TypeError(f"this weight has {'' if self.has_zeros else 'no '}zero points")
        if (offsets is not None) != self.has_offsets:
            raise TypeError(f"this weight has {'' if self.has_offsets else 'no '}offsets")
        if zeros is not None:
            check_part(zeros, "zeros", torch.uint8, groups)
        if offsets is not None:
            check_part(offsets, "offsets", self.scale_dtype, groups)
        check_rows(first_row, num_rows, self.out_features)
        shifts = zeros if offsets is None else offsets
        values, scales, shifts = (
            values.contiguous(),
            scales.contiguous(),
            None if shifts is None else shifts.contiguous(),
        )
        self.handle.fill(values.data_ptr(), scales.data_ptr(), address_of(shifts), first_row, num_rows)

    def unpack(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, scales, and zeros or offsets if there are any, of all rows, as :meth:`fill` takes them."""
        parts = self._empty_rows(self.out_features)
        self.handle.read(0, self.out_features, *map(address_of, parts))
        return parts

    def unpack_rows(self, row_ids: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the same of the rows int64 ``[n]``.

        Raises:
            IndexError: an id is not a row of the weight.
        """
        check_token_ids(row_ids)
        row_ids = row_ids.contiguous()
        parts = self._empty_rows(len(row_ids))
        addresses = map(address_of, parts)
        self.handle.gather(row_ids.data_ptr(), len(row_ids), *addresses)
        return parts

    def _empty_rows(self, num_rows: int) -> tuple[Tensor, Tensor, Tensor | None]:
        groups = (num_rows, self.in_features // self.group_size)
        values = torch.empty((num_rows, self.in_features * self.BITS // 8), dtype=torch.uint8)
        scales = torch.empty(groups, dtype=self.scale_dtype)
        if not (self.has_zeros or self.has_offsets):
            return values, scales, None
        return values, scales, torch.empty(groups, dtype=torch.uint8 if self.has_zeros else self.scale_dtype)

    @property
    def rounding_group_size(self) -> int:
        return self.group_size

    def multiply(self, *arguments: int) -> None:
        load_native().grouped_linear(self.handle, *arguments)


class PackedInt4Weight(PackedGroupedWeight):
    """A :class:`PackedGroupedWeight` of values from 0 to 15; without zero points and offsets the zero point is 8."""

    __slots__ = ()

    BITS = 4


class PackedInt8GroupsWeight(PackedGroupedWeight):
    """A :class:`PackedGroupedWeight` of values from 0 to 255; without zero points and offsets the zero point is 128."""

    __slots__ = ()

    BITS = 8


def pack_int4(
    values: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    *,
    offsets: Tensor | None = None,
    gated: bool = False,
) -> PackedInt4Weight:
    """Return a packed copy of an int4 weight, whose tensors are as :meth:`PackedGroupedWeight.fill` takes them."""
    return _pack(PackedInt4Weight, values, scales, zeros, offsets, gated)


def pack_int8_groups(
    values: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    *,
    offsets: Tensor | None = None,
    gated: bool = False,
) -> PackedInt8GroupsWeight:
    """Return a packed copy of an int8 weight with groups: tensors as :meth:`PackedGroupedWeight.fill` takes them."""
    return _pack(PackedInt8GroupsWeight, values, scales, zeros, offsets, gated)


def _pack(
    kind: type[Weight], values: Tensor, scales: Tensor, zeros: Tensor | None, offsets: Tensor | None, gated: bool
) -> Weight:
    out_features, in_features = len(values), values.shape[1] * 8 // kind.BITS
    packed = kind(
        out_features,
        in_features,
        group_size=in_features // scales.shape[1],
        scale_dtype=scales.dtype,
        has_zeros=zeros is not None,
        has_offsets=offsets is not None,
        gated=gated,
    )
    packed.fill(0, values, scales, zeros, offsets=offsets)
    return packed


def int4_linear(
    x: Tensor | QuantizedRows,
    weight: PackedInt4Weight,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return ``x @ weight.T + bias + residual``, with arguments as those of ``int8_linear``."""
    return quantized_linear(x, weight, bias, residual, out)


def int4_linear_silu_and_mul(
    x: Tensor | QuantizedRows,
    weight: PackedInt4Weight,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    added: Tensor | None = None,
) -> Tensor:
    """Return ``silu(gate) * up``, with arguments as those of ``int8_linear_silu_and_mul``."""
    return quantized_linear_silu_and_mul(x, weight, bias, out, added)


def int8_groups_linear(
    x: Tensor | QuantizedRows,
    weight: PackedInt8GroupsWeight,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return ``x @ weight.T + bias + residual``, with arguments as those of ``int8_linear``."""
    return quantized_linear(x, weight, bias, residual, out)


def int8_groups_linear_silu_and_mul(
    x: Tensor | QuantizedRows,
    weight: PackedInt8GroupsWeight,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    added: Tensor | None = None,
) -> Tensor:
    """Return ``silu(gate) * up``, with arguments as those of ``int8_linear_silu_and_mul``."""
    return quantized_linear_silu_and_mul(x, weight, bias, out, added)
