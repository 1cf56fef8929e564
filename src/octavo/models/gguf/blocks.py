"""The tensors of a GGUF file under their checkpoint names: as stored blocks, or as numbers of any floating type.

Native kernels take blocks; everything else takes numbers. Either way one tensor at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from octavo.models.config import ModelConfig
from octavo.models.gguf.config import architecture_of
from octavo.models.gguf.dequantize import dequantize
from octavo.models.gguf.names import ROPE_FREQUENCIES, checkpoint_name, is_query_or_key
from octavo.models.gguf.reader import GgufTensor
from octavo.models.gguf.split import open_gguf
from octavo.models.gguf.tensor_types import TensorType


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as it is stored, under its checkpoint name and with the checkpoint's order of rows.

    Attributes:
        shape: of the numbers.
        rows: ``[num_rows, row_bytes]`` uint8: whole blocks of ``type``, one row of the last dimension each. A tensor
            of one dimension that is stored without blocks has one number a row.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    rows: Tensor

    def numbers(self, dtype: torch.dtype) -> Tensor:
        """Return the tensor as numbers."""
        return dequantize(self.rows, self.type, dtype).view(self.shape)


def iterate_stored(path: Path, config: ModelConfig) -> Iterator[StoredTensor]:
    """Yield the tensors of a GGUF file, mapped from it.

    Args:
        config: of the same file.

    Raises:
        ModelError: the file is broken, or a part of it is missing.
    """
    file = open_gguf(path)
    # llama.cpp rotates neighbouring dimensions of a llama's heads, transformers those half a head apart: the rows of
    # queries and keys are reordered when such a model is converted, and back here.
    has_reordered_heads = architecture_of(file) == "llama"
    for tensor in file.tensors.values():
        if tensor.name == ROPE_FREQUENCIES:  # part of the configuration
            continue
        rows = _rows(tensor)
        if has_reordered_heads and is_query_or_key(tensor.name) and rows.shape[0] % config.head_dim == 0:
            rows = rows.view(-1, config.head_dim // 2, 2, rows.shape[1]).transpose(1, 2).flatten(0, 2)
        yield StoredTensor(checkpoint_name(tensor.name), tensor.shape, tensor.type, rows)


def iterate_gguf(
    path: Path, config: ModelConfig, dtype: torch.dtype, *, blocks: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Yield checkpoint name and numbers of every tensor, as ``load_weights`` takes them.

    Args:
        blocks: leave the matrices that are stored in blocks as they are, ``[num_rows, row_bytes]`` uint8.

    Raises:
        ModelError: the file is broken, or a part of it is missing.
    """
    for stored in iterate_stored(path, config):
        is_kept = blocks and stored.type.block_size > 1 and len(stored.shape) > 1
        yield stored.name, stored.rows if is_kept else stored.numbers(dtype)


def _rows(tensor: GgufTensor) -> Tensor:
    is_vector = len(tensor.shape) == 1 and tensor.type.block_size == 1
    row_bytes = tensor.type.block_bytes if is_vector else tensor.row_bytes
    return torch.frombuffer(tensor.data(), dtype=torch.uint8).view(-1, row_bytes)
