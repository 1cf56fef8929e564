"""The matrices of a GGUF file, held at about the size that they have in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from octavo.errors import ModelError
from octavo.models.gguf.repack import repack
from octavo.models.gguf.tensor_types import TensorType
from octavo.models.layers.parameters import FLOAT_DTYPES, CheckpointTensor, Placement
from octavo.models.quantization.base import DenseWeight, LinearFormat, LinearWeight
from octavo.models.quantization.mixed import MixedWeight


@dataclass(frozen=True, slots=True)
class GgufFormat(LinearFormat):
    """Blocks as they are stored, repacked without rounding any value; what is stored without blocks is dense.

    A checkpoint tensor is ``[out_features, row_bytes]`` uint8 if it is stored in blocks.

    Attributes:
        types: of the matrices that are stored in blocks, by their checkpoint names.
    """

    types: Mapping[str, TensorType]

    @property
    def allows_lookup(self) -> bool:
        return True

    @property
    def holds_embedding(self) -> bool:
        return True

    def allocate(self, output_size: int, input_size: int, placement: Placement) -> LinearWeight:
        return MixedWeight(output_size, input_size)

    def checkpoint_tensors(
        self, name: str, output_size: int, input_size: int, store: Callable[[LinearWeight], None]
    ) -> Iterator[CheckpointTensor]:
        weight = f"{name}.weight"
        kind = self.types.get(weight)
        if kind is None:
            yield CheckpointTensor(weight, (output_size, input_size), lambda tensor: store(DenseWeight(tensor)))
            return
        if input_size % kind.block_size:
            raise ModelError(
                f"The file stores {weight} in blocks of {kind.block_size}, but by its metadata it has {input_size} "
                "inputs."
            )
        row_bytes = input_size // kind.block_size * kind.block_bytes
        take = partial(_repack_and_store, weight, kind, store)
        yield CheckpointTensor(weight, (output_size, row_bytes), take, (torch.uint8,))


def _repack_and_store(name: str, kind: TensorType, store: Callable[[LinearWeight], None], rows: Tensor) -> None:
    weight = repack(rows, kind)
    if not rows.is_meta and not all(
        part.isfinite().all() for part in weight.parameters() if part.dtype in FLOAT_DTYPES
    ):
        raise ModelError(f"The file's tensor {name} has scales that float16 cannot hold, or that are no numbers.")
    store(weight)
