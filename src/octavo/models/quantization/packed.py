"""Ready-made GPTQ and AWQ checkpoints, unpacked without any loss.

Both store 32-bit words with several values each, for the transposed matrix ``[in_features, out_features]``:
``qweight``, ``qzeros`` and ``scales``. The weight is ``(value - zero) * scale``, with scale and zero point of the
value's group.

- GPTQ (arXiv:2210.17323, packed by AutoGPTQ and GPTQModel): a word of ``qweight`` holds neighbouring inputs, one of
  ``qzeros`` neighbouring outputs, the first in the lowest bits. The first version of the format stores zero points less
  one. ``g_idx`` is the group of each input.
- AWQ (arXiv:2306.00978, packed by AutoAWQ for its GEMM kernels): a word of both holds eight neighbouring outputs,
  shuffled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from octavo.errors import ModelError
from octavo.kernels.reference.quantized_linear import pack_int4, unpack_int4
from octavo.models.layers.parameters import FLOAT_DTYPES, CheckpointTensor, Placement
from octavo.models.quantization.base import (
    GROUP_SIZES,
    InputOrderWeight,
    Int4Weight,
    Int8GroupsWeight,
    LinearFormat,
    LinearWeight,
)

CheckpointShape = tuple[tuple[int, ...], tuple[torch.dtype, ...]]

_INT32 = (torch.int32,)
# Place in a word of AWQ of its first output, its second, …, counted from the lowest bits.
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


@dataclass(frozen=True)
class PackedFormat(LinearFormat):
    """What the two have in common.

    Attributes:
        bits: of one value, 4 or 8.
        group_size: inputs that share a scale in the checkpoint; None is all.
    """

    bits: int
    group_size: int | None

    @abstractmethod
    def declare(self, name: str, output_size: int, input_size: int) -> dict[str, CheckpointShape]:
        """Return the tensors of a projection, by the last part of their names."""

    @abstractmethod
    def unpack(self, name: str, tensors: Mapping[str, Tensor]) -> LinearWeight:
        """Return the weight of a projection from the tensors that were declared."""

    def allocate(self, output_size: int, input_size: int, placement: Placement) -> LinearWeight:
        groups = input_size // self._held_group_size(input_size)
        return self._weight(
            placement.parameter(output_size, input_size * self.bits // 8, dtype=torch.uint8),
            placement.parameter(output_size, groups, dtype=torch.float32),
            placement.parameter(output_size, groups, dtype=torch.uint8),
        )

    def checkpoint_tensors(
        self, name: str, output_size: int, input_size: int, store: Callable[[LinearWeight], None]
    ) -> Iterator[CheckpointTensor]:
        declared = self.declare(name, output_size, input_size)
        found: dict[str, Tensor] = {}

        def take(part: str, tensor: Tensor) -> None:
            found[part] = tensor
            if len(found) == len(declared):
                store(self.unpack(name, found))
                found.clear()

        for part, (shape, dtypes) in declared.items():
            yield CheckpointTensor(f"{name}.{part}", shape, partial(take, part), dtypes)

    def _declare_scales(self, output_size: int, input_size: int) -> dict[str, CheckpointShape]:
        groups = -(-input_size // (self.group_size or input_size))
        return {
            "qzeros": ((groups, output_size * self.bits // 32), _INT32),
            "scales": ((groups, output_size), FLOAT_DTYPES),
        }

    def _weight(self, values: Tensor, scales: Tensor, zeros: Tensor) -> LinearWeight:
        return (Int4Weight if self.bits == 4 else Int8GroupsWeight)(values, scales, zeros)

    def _held_group_size(self, input_size: int) -> int:
        """Return the largest size that a weight can hold and that cuts the checkpoint's groups into whole parts."""
        stored = self.group_size or input_size
        fitting = [size for size in GROUP_SIZES if stored % size == 0 and input_size % size == 0]
        if not fitting:
            raise ModelError(
                f"the checkpoint has linear layers with {input_size} inputs in groups of {stored}; both must be "
                "multiples of 32."
            )
        return fitting[0]

    def _for_held_groups(self, per_group: Tensor, input_size: int) -> Tensor:
        """Repeat what the checkpoint has for its groups, ``[groups, n]``, for the held ones: ``[n, held groups]``."""
        held = self._held_group_size(input_size)
        repeated = per_group.T.repeat_interleave((self.group_size or input_size) // held, dim=1)
        return repeated[:, : input_size // held]  # the last group may be shorter


@dataclass(frozen=True)
class Gptq(PackedFormat):
    """GPTQ with 4 or 8 bits.

    Attributes:
        zero_offset: what has to be added to the stored zero points: 1 in the first version of the format, else 0.
        has_input_order: the inputs of a group do not lie side by side; each projection has an order of its own.
    """

    zero_offset: int = 1
    has_input_order: bool = False

    @property
    def merges(self) -> bool:
        return not self.has_input_order

    @property
    def has_needless_biases(self) -> bool:
        return True  # AutoGPTQ once gave a bias to every layer

    def allocate(self, output_size: int, input_size: int, placement: Placement) -> LinearWeight:
        weight = super().allocate(output_size, input_size, placement)
        if not self.has_input_order:
            return weight
        return InputOrderWeight(weight, placement.parameter(input_size, dtype=torch.int64))

    def checkpoint_tensors(
        self, name: str, output_size: int, input_size: int, store: Callable[[LinearWeight], None]
    ) -> Iterator[CheckpointTensor]:
        yield from super().checkpoint_tensors(name, output_size, input_size, store)
        if not self.has_input_order:
            check = partial(self._check_group_index, name)
            yield CheckpointTensor(f"{name}.g_idx", (input_size,), check, _INT32, is_required=False)

    def declare(self, name: str, output_size: int, input_size: int) -> dict[str, CheckpointShape]:
        values_per_word = 32 // self.bits
        _check_words(name, input_size, output_size, (input_size, output_size), values_per_word)
        declared: dict[str, CheckpointShape] = {
            "qweight": ((input_size // values_per_word, output_size), _INT32),
            **self._declare_scales(output_size, input_size),
        }
        if self.has_input_order:
            declared["g_idx"] = ((input_size,), _INT32)
        return declared

    def unpack(self, name: str, tensors: Mapping[str, Tensor]) -> LinearWeight:
        values = _bytes_of(tensors["qweight"].T)  # neighbouring inputs are already where the weight has them
        input_size = values.shape[1] * 8 // self.bits
        zeros = (self._separate(_bytes_of(tensors["qzeros"])) + self.zero_offset) & (2**self.bits - 1)
        scales, zeros = (self._for_held_groups(part, input_size) for part in (tensors["scales"], zeros))
        if not self.has_input_order:
            return self._weight(values, scales, zeros)
        input_order = self._input_order(name, tensors["g_idx"])
        values = self._separate(values)[:, input_order]
        values = pack_int4(values) if self.bits == 4 else values
        return InputOrderWeight(self._weight(values, scales, zeros), input_order)

    def _separate(self, packed: Tensor) -> Tensor:
        return unpack_int4(packed) if self.bits == 4 else packed

    def _input_order(self, name: str, group_index: Tensor) -> Tensor:
        """Return the inputs sorted by their group."""
        input_order = group_index.argsort(stable=True)
        if not torch.equal(group_index[input_order], self._group_index(group_index)):
            raise ModelError(
                f"The checkpoint's tensor {name}.g_idx does not share {len(group_index)} inputs out to groups of "
                f"{self.group_size or len(group_index)}."
            )
        return input_order

    def _check_group_index(self, name: str, group_index: Tensor) -> None:
        if group_index.count_nonzero() and not torch.equal(group_index, self._group_index(group_index)):
            raise ModelError(
                f"The checkpoint's tensor {name}.g_idx orders the inputs, but quantization_config says desc_act=false."
            )

    def _group_index(self, like: Tensor) -> Tensor:
        """Return the group of each input if those of a group lie side by side."""
        return torch.arange(len(like), dtype=like.dtype, device=like.device) // (self.group_size or len(like))


@dataclass(frozen=True)
class Awq(PackedFormat):
    """AWQ with 4 bits."""

    def declare(self, name: str, output_size: int, input_size: int) -> dict[str, CheckpointShape]:
        _check_words(name, input_size, output_size, (output_size,), len(_AWQ_PLACES))
        return {
            "qweight": ((input_size, output_size // len(_AWQ_PLACES)), _INT32),
            **self._declare_scales(output_size, input_size),
        }

    def unpack(self, name: str, tensors: Mapping[str, Tensor]) -> LinearWeight:
        values = pack_int4(_outputs_of_awq(tensors["qweight"]).T)
        input_size = 2 * values.shape[1]
        return self._weight(
            values,
            self._for_held_groups(tensors["scales"], input_size),
            self._for_held_groups(_outputs_of_awq(tensors["qzeros"]), input_size),
        )


def _outputs_of_awq(words: Tensor) -> Tensor:
    """Return ``[n, out_features / 8]`` words as ``[n, out_features]`` uint8 values, in their order."""
    return unpack_int4(_bytes_of(words)).view(len(words), -1, len(_AWQ_PLACES))[:, :, _AWQ_PLACES].flatten(1)


def _bytes_of(words: Tensor) -> Tensor:
    """Return ``[n, m]`` 32-bit words as ``[n, 4 m]`` bytes, the lowest bits first."""
    return words.contiguous().view(torch.uint8)


def _check_words(
    name: str, input_size: int, output_size: int, packed_sizes: tuple[int, ...], values_per_word: int
) -> None:
    if any(size % values_per_word for size in packed_sizes):
        raise ModelError(
            f"{name} has {input_size} inputs and {output_size} outputs, which cannot be packed {values_per_word} a "
            "word as quantization_config says."
        )
