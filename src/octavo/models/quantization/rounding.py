"""From dense weights to int8 and int4, without calibration data: a checkpoint is quantised while it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.errors import ModelError
from octavo.kernels import cpu
from octavo.kernels.reference.quantized_linear import INT4_ZERO, INT8_MAX, pack_int4
from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.quantization.base import GROUP_SIZES, Int4Weight, Int8Weight, LinearFormat, LinearWeight

DEFAULT_GROUP_SIZE = 64

# Temporaries of so many weights stay in the caches of a core, and beside the memory of a layer they are nothing.
_CHUNK = 2**18
# Where the entry of a group with the largest magnitude is put, beside -8: the grid grows or shrinks around the others.
_SEARCHED_ENDS = (-8.0, -7.1, -7.55, -8.45, -8.9)


@dataclass(frozen=True, slots=True)
class RoundedInt8(LinearFormat):
    """int8 with a scale an output channel, rounded to the nearest."""

    @property
    def allows_lookup(self) -> bool:
        return True

    def allocate(self, output_size: int, input_size: int, placement: Placement) -> LinearWeight:
        return Int8Weight(
            placement.parameter(output_size, input_size, dtype=torch.int8),
            placement.parameter(output_size, dtype=torch.float32),
        )

    def checkpoint_tensors(
        self, name: str, output_size: int, input_size: int, store: Callable[[LinearWeight], None]
    ) -> Iterator[CheckpointTensor]:
        yield _dense_tensor(name, (output_size, input_size), lambda tensor: store(quantize_int8(tensor)))


@dataclass(frozen=True, slots=True)
class RoundedInt4(LinearFormat):
    """int4, with the scale of each group searched for the least squared error.

    Attributes:
        group_size: inputs that share a scale. Where it does not divide the inputs, the largest smaller one that does.
    """

    group_size: int = DEFAULT_GROUP_SIZE

    def allocate(self, output_size: int, input_size: int, placement: Placement) -> LinearWeight:
        group_size = self._group_size(input_size)
        return Int4Weight(
            placement.parameter(output_size, input_size // 2, dtype=torch.uint8),
            placement.parameter(output_size, input_size // group_size, dtype=torch.float16),
            None,
        )

    def checkpoint_tensors(
        self, name: str, output_size: int, input_size: int, store: Callable[[LinearWeight], None]
    ) -> Iterator[CheckpointTensor]:
        group_size = self._group_size(input_size)
        yield _dense_tensor(name, (output_size, input_size), lambda tensor: store(quantize_int4(tensor, group_size)))

    def _group_size(self, input_size: int) -> int:
        fitting = [size for size in GROUP_SIZES if size <= self.group_size and input_size % size == 0]
        if not fitting:
            raise ModelError(
                f"int4 needs linear layers whose inputs come in groups of 32, but the model has one with {input_size} "
                "inputs. Use --quantization int8."
            )
        return fitting[0]


def quantize_int8(weight: Tensor) -> Int8Weight:
    """Round ``[out_features, in_features]``; each entry is off by at most half of its row's scale."""
    if _is_for_native(weight):
        return Int8Weight(*cpu.quantize_int8(weight))
    return _quantize_int8(weight)


def _quantize_int8(weight: Tensor) -> Int8Weight:
    values = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(len(weight), dtype=torch.float32, device=weight.device)
    for rows in _chunks(weight):
        wide = weight[rows].float()
        scales[rows] = wide.abs().amax(dim=1) / INT8_MAX
        inverse = _inverse(scales[rows]).unsqueeze(1)
        values[rows] = (wide * inverse).round().clamp(-INT8_MAX, INT8_MAX).to(torch.int8)
    return Int8Weight(values, scales)


def quantize_int4(weight: Tensor, group_size: int) -> Int4Weight:
    """Round ``[out_features, in_features]`` with a float16 scale for each group and the zero point 8.

    The entry of largest magnitude sets the scale, negative if it is positive: the grid reaches from -8 to 7, and this
    puts that entry at the far end. Scales around it are tried, each refitted by least squares to the values it gives,
    and the one of least squared error is kept.
    """
    if _is_for_native(weight):
        return Int4Weight(*cpu.quantize_int4(weight, group_size), None)
    return _quantize_int4(weight, group_size)


def _quantize_int4(weight: Tensor, group_size: int) -> Int4Weight:
    out_features, in_features = weight.shape
    values = torch.empty((out_features, in_features // 2), dtype=torch.uint8, device=weight.device)
    scales = torch.empty((out_features, in_features // group_size), dtype=torch.float16, device=weight.device)
    for rows in _chunks(weight):
        part = weight[rows].float()
        groups = part.view(len(part), -1, group_size)
        best_scales, best_values = _search(groups)
        scales[rows] = best_scales.squeeze(2).to(torch.float16)
        values[rows] = pack_int4((best_values + INT4_ZERO).to(torch.uint8).flatten(1))
    return Int4Weight(values, scales, None)


def _search(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return scales ``[…, 1]`` that float16 can hold, and values from -8 to 7, for ``groups`` ``[…, group_size]``."""
    furthest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    best_error = torch.full_like(furthest, torch.inf)
    best_scales, best_values = torch.zeros_like(furthest), torch.zeros_like(groups)
    for end in _SEARCHED_ENDS:
        values = (groups * (end * _inverse(furthest))).round().clamp(-8, 7)
        fitted = _sum(groups * values) / _sum(values * values).clamp(min=1)
        scales = fitted.to(torch.float16).float()
        error = _sum((groups - values * scales).square())
        is_better = error < best_error
        best_error = torch.where(is_better, error, best_error)
        best_scales = torch.where(is_better, scales, best_scales)
        best_values = torch.where(is_better, values, best_values)
    return best_scales, best_values


def _sum(groups: Tensor) -> Tensor:
    """Return the sums ``[…, 1]`` of ``[…, group_size]``: of the two halves, of their halves, and so on.

    The order is part of the format: with it the same weights give the same bits on every machine and device.
    """
    while groups.shape[-1] > 1:
        first, second = groups.chunk(2, dim=-1)
        groups = first + second
    return groups


def _is_for_native(weight: Tensor) -> bool:
    return weight.is_cpu and cpu.has_native() and weight.dtype in cpu.WEIGHT_DTYPES


def _dense_tensor(name: str, shape: tuple[int, int], take: Callable[[Tensor], None]) -> CheckpointTensor:
    weight = f"{name}.weight"

    def check_and_take(tensor: Tensor) -> None:
        # Both ends are NaN if an entry is; `isfinite` takes longer than the rounding.
        if not all(end.isfinite() for end in tensor.aminmax()):
            raise ModelError(f"The checkpoint's tensor {weight} has NaN or infinite entries; it cannot be quantized.")
        take(tensor)

    return CheckpointTensor(weight, shape, check_and_take)


def _inverse(tensor: Tensor) -> Tensor:
    """Return ``1 / tensor``, and 0 where that is not finite."""
    return tensor.reciprocal().nan_to_num(posinf=0.0, neginf=0.0)


def _chunks(weight: Tensor) -> Iterator[slice]:
    step = max(_CHUNK // weight.shape[1], 1)
    return (slice(start, start + step) for start in range(0, len(weight), step))
