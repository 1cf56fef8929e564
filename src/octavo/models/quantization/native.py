"""Weights in the order in which the native kernels of a CPU read them: each kind of weight has its counterpart here.

Activations are float32. Weights that are not quantised keep a type of two bytes and are widened on the way, or, if the
placement says so, activations are rounded to bfloat16 for the product with a bfloat16 weight.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from octavo.kernels import cpu
from octavo.kernels.reference.quantized_linear import dequantize_int8
from octavo.models.layers.parameters import Placement
from octavo.models.quantization.base import (
    DenseWeight,
    GroupedWeight,
    InputOrderWeight,
    Int4Weight,
    Int8GroupsWeight,
    Int8Weight,
    LinearFormat,
    LinearWeight,
    LookupWeight,
)
from octavo.models.quantization.mixed import MixedWeight, empty_like

_META = torch.device("meta")
# Random weights are drawn so many rows at a time, to be packed while they are in the caches.
_ROWS_OF_NOISE = 4096


def allocate_weight(
    weight_format: LinearFormat, output_size: int, input_size: int, placement: Placement, *, gated: bool = False
) -> LinearWeight:
    """Return a weight whose memory is reserved but not yet written, packed if the placement says so.

    Args:
        gated: only :meth:`LinearWeight.silu_and_mul` will be asked of it.

    Raises:
        ModelError: a matrix of this shape has no such format.
    """
    if not placement.is_native:
        return weight_format.allocate(output_size, input_size, placement)
    weight = weight_format.allocate(output_size, input_size, replace(placement, device=_META))
    return _packed(weight, gated, placement.rounds_activations)


def hold_dense(matrix: Tensor, *, native: bool) -> LinearWeight:
    """Return the weight ``matrix`` ``[out_features, in_features]``, packed if it is for native kernels."""
    return NativeDenseWeight(cpu.pack(matrix)) if native else DenseWeight(matrix)


class _NativeWeight(LookupWeight):
    """A packed weight and the kernels that take it. Products can be written to where they are wanted, ``out``."""

    packed: cpu.PackedWeight | cpu.PackedInt8Weight | cpu.PackedInt4Weight | cpu.PackedInt8GroupsWeight

    @abstractmethod
    def forward(self, x: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Return ``x @ weight.T + bias``, in ``out`` if it is given."""

    @property
    def num_bytes(self) -> int:
        """Memory that the weight takes."""
        return self.packed.num_bytes


class NativeDenseWeight(_NativeWeight):
    """Counterpart of ``DenseWeight``."""

    packed: cpu.PackedWeight

    def __init__(self, packed: cpu.PackedWeight) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, x: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        return cpu.linear(x, self.packed, bias, out=out)

    def silu_and_mul(self, x: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        return cpu.linear_silu_and_mul(x, self.packed, bias, added=added)

    def lookup(self, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
        return cpu.embedding(token_ids, self.packed).to(dtype)

    def dequantize(self) -> Tensor:
        return self.packed.unpack().float()

    def copy_rows(self, first_row: int, rows: LinearWeight) -> None:
        self.packed.fill(first_row, rows.get_parameter("weight").detach().to(self.packed.dtype))

    def fill_with_noise(self, std: float, generator: torch.Generator) -> None:
        for first_row in range(0, self.packed.out_features, _ROWS_OF_NOISE):
            num_rows = min(_ROWS_OF_NOISE, self.packed.out_features - first_row)
            noise = torch.empty(num_rows, self.packed.in_features, dtype=self.packed.dtype)
            self.packed.fill(first_row, noise.normal_(std=std, generator=generator))


class NativeInt8Weight(_NativeWeight):
    """Counterpart of ``Int8Weight``."""

    packed: cpu.PackedInt8Weight

    def __init__(self, packed: cpu.PackedInt8Weight) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, x: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        return cpu.int8_linear(x, self.packed, bias, out=out)

    def silu_and_mul(self, x: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        return cpu.int8_linear_silu_and_mul(x, self.packed, bias, added=added)

    def lookup(self, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
        return cpu.int8_embedding(token_ids, self.packed).to(dtype)

    def dequantize(self) -> Tensor:
        return dequantize_int8(*self.packed.unpack())

    def copy_rows(self, first_row: int, rows: LinearWeight) -> None:
        self.packed.fill(first_row, *(rows.get_parameter(name).detach() for name in ("values", "scales")))

    def fill_with_noise(self, std: float, generator: torch.Generator) -> None:
        noise = Int8Weight(*self.packed.unpack())
        noise.fill_with_noise(std, generator)
        self.copy_rows(0, noise)


class _NativeGroupedWeight(_NativeWeight):
    """Counterpart of ``GroupedWeight``, but activations are rounded to int8 too, each group with a scale of its own."""

    packed: cpu.PackedInt4Weight | cpu.PackedInt8GroupsWeight
    plain: ClassVar[type[GroupedWeight]]

    def dequantize(self) -> Tensor:
        return self._plain(self.packed.unpack()).dequantize()

    def lookup(self, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
        return self._plain(self.packed.unpack_rows(token_ids)).dequantize().to(dtype)

    def copy_rows(self, first_row: int, rows: LinearWeight) -> None:
        parts = {name: part.detach() for name, part in rows.named_parameters()}
        parts["scales"] = parts["scales"].to(self.packed.scale_dtype)
        self.packed.fill(first_row, **parts)

    def fill_with_noise(self, std: float, generator: torch.Generator) -> None:
        noise = self._plain(self.packed.unpack())
        noise.fill_with_noise(std, generator)
        self.copy_rows(0, noise)

    def _plain(self, parts: tuple[Tensor, Tensor, Tensor | None]) -> GroupedWeight:
        values, scales, shifts = parts
        if self.packed.has_offsets:
            return self.plain(values, scales, offsets=shifts)
        return self.plain(values, scales, shifts)


class NativeInt4Weight(_NativeGroupedWeight):
    """Counterpart of ``Int4Weight``."""

    packed: cpu.PackedInt4Weight
    plain = Int4Weight

    def __init__(self, packed: cpu.PackedInt4Weight) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, x: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        return cpu.int4_linear(x, self.packed, bias, out=out)

    def silu_and_mul(self, x: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        return cpu.int4_linear_silu_and_mul(x, self.packed, bias, added=added)


class NativeInt8GroupsWeight(_NativeGroupedWeight):
    """Counterpart of ``Int8GroupsWeight``."""

    packed: cpu.PackedInt8GroupsWeight
    plain = Int8GroupsWeight

    def __init__(self, packed: cpu.PackedInt8GroupsWeight) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, x: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        return cpu.int8_groups_linear(x, self.packed, bias, out=out)

    def silu_and_mul(self, x: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        return cpu.int8_groups_linear_silu_and_mul(x, self.packed, bias, added=added)


class NativeMixedWeight(MixedWeight):
    """Counterpart of ``MixedWeight``: products are written side by side.

    Args:
        gated: only :meth:`LinearWeight.silu_and_mul` will be asked of it.
        rounds_activations: as in ``Placement``.
    """

    def __init__(self, output_size: int, input_size: int, *, gated: bool, rounds_activations: bool) -> None:
        super().__init__(output_size, input_size)
        self.gated = gated
        self.rounds_activations = rounds_activations

    def empty_like(self, rows: LinearWeight, num_rows: int, *, alone: bool) -> LinearWeight:
        return _packed(empty_like(rows, num_rows, _META), self.gated and alone, self.rounds_activations)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        if len(self.weights) == 1:
            return super().forward(x, bias)
        out = torch.empty((len(x), self.output_size))
        start = 0
        for part in cast("list[_NativeWeight]", self.parts):
            end = start + part.packed.out_features
            part(x, None if bias is None else bias[start:end], out[:, start:end])
            start = end
        return out


def _packed(weight: LinearWeight, gated: bool, rounds_activations: bool) -> LinearWeight:
    """Return the empty counterpart of a weight on the meta device.

    A kind that has none becomes what it was on the meta device, with memory.
    """
    if isinstance(weight, DenseWeight):
        rows, columns = weight.weight.shape
        dtype = weight.weight.dtype
        rounds = rounds_activations and dtype == torch.bfloat16
        return NativeDenseWeight(cpu.PackedWeight(rows, columns, dtype, gated=gated, rounds_activations=rounds))
    if isinstance(weight, Int8Weight):
        return NativeInt8Weight(cpu.PackedInt8Weight(*weight.values.shape, gated=gated))
    if isinstance(weight, Int4Weight):
        rows, bytes_of_row = weight.values.shape
        return NativeInt4Weight(cpu.PackedInt4Weight(rows, 2 * bytes_of_row, **_layout(weight), gated=gated))
    if isinstance(weight, Int8GroupsWeight):
        return NativeInt8GroupsWeight(cpu.PackedInt8GroupsWeight(*weight.values.shape, **_layout(weight), gated=gated))
    if isinstance(weight, MixedWeight):
        return NativeMixedWeight(
            weight.output_size, weight.input_size, gated=gated, rounds_activations=rounds_activations
        )
    if isinstance(weight, InputOrderWeight):
        inner = _packed(weight.weight, gated, rounds_activations)
        return InputOrderWeight(inner, torch.empty_like(weight.input_order, device="cpu"))
    return weight.to_empty(device="cpu")


def _layout(weight: GroupedWeight) -> dict[str, Any]:
    """Return what the packed counterpart must know of a weight's groups."""
    return {
        "group_size": weight.group_size,
        "scale_dtype": weight.scales.dtype,
        "has_zeros": weight.zeros is not None,
        "has_offsets": weight.offsets is not None,
    }
