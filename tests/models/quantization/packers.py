"""Packs integers into the tensors of GPTQ and AWQ checkpoints, one value at a time as the formats describe it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Integers:
    """A quantised matrix before it is packed.

    Attributes:
        values: ``[out_features, in_features]``, from 0 to 2**bits - 1.
        zeros, scales: ``[out_features, num_groups]``.
        group_index: ``[in_features]``, group of each input.
    """

    bits: int
    values: np.ndarray
    zeros: np.ndarray
    scales: Tensor
    group_index: np.ndarray

    def dense(self) -> Tensor:
        """The matrix in float32."""
        centred = self.values.astype(np.int64) - self.zeros.astype(np.int64)[:, self.group_index]
        return torch.from_numpy(centred).float() * self.scales.float()[:, self.group_index]


def random_integers(
    seed: int,
    outputs: int,
    inputs: int,
    *,
    bits: int = 4,
    group_size: int | None = 32,
    shuffled: bool = False,
    symmetric: bool = False,
    spread: float = 0.1,
) -> Integers:
    """Draw a matrix.

    Args:
        group_size: None is one group.
        shuffled: the inputs are dealt out to the groups at random, as GPTQ does with desc_act.
        symmetric: all zero points are in the middle.
        spread: about the largest magnitude of an entry.
    """
    rng = np.random.default_rng(seed)
    group_index = np.arange(inputs) // (group_size or inputs)
    if shuffled:
        group_index = rng.permutation(group_index)
    shape = (outputs, int(group_index.max()) + 1)
    middle = np.full(shape, 2 ** (bits - 1))
    return Integers(
        bits=bits,
        values=rng.integers(0, 2**bits, (outputs, inputs)),
        zeros=middle if symmetric else rng.integers(0, 2**bits, shape),
        scales=torch.from_numpy(rng.uniform(0.1, 1.0, shape) * spread / 2 ** (bits - 1)).half(),
        group_index=group_index,
    )


def gptq_tensors(matrix: Integers, zero_offset: int = 1) -> dict[str, Tensor]:
    """Neighbouring inputs of a value share a word, neighbouring outputs of a zero point; lowest bits first."""
    return {
        "qweight": _pack(matrix.values.T, matrix.bits, axis=0),
        "qzeros": _pack((matrix.zeros.T - zero_offset) % 2**matrix.bits, matrix.bits, axis=1),
        "scales": matrix.scales.T.contiguous(),
        "g_idx": torch.from_numpy(matrix.group_index).int(),
    }


def awq_tensors(matrix: Integers) -> dict[str, Tensor]:
    """Eight neighbouring outputs share a word, in the order 0 2 4 6 1 3 5 7 from the lowest bits on."""

    def shuffled(columns: np.ndarray) -> np.ndarray:
        blocks = columns.reshape(len(columns), -1, 8)
        return blocks[:, :, [0, 2, 4, 6, 1, 3, 5, 7]].reshape(len(columns), -1)

    return {
        "qweight": _pack(shuffled(matrix.values.T), 4, axis=1),
        "qzeros": _pack(shuffled(matrix.zeros.T), 4, axis=1),
        "scales": matrix.scales.T.contiguous(),
    }


def _pack(values: np.ndarray, bits: int, *, axis: int) -> Tensor:
    per_word = 32 // bits
    rows = np.moveaxis(values, axis, 0)
    words = np.zeros((len(rows) // per_word, rows.shape[1]), dtype=np.uint32)
    for index, row in enumerate(rows):
        words[index // per_word] |= row.astype(np.uint32) << np.uint32(bits * (index % per_word))
    return torch.from_numpy(np.moveaxis(words, 0, axis).copy().view(np.int32))
