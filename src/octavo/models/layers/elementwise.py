"""Functions of single elements that give the same bits wherever an element lies.

torch computes most of a tensor in whole vectors of the processor, and what is left at the end by another formula with
other roundings. Which elements those are depends on the number of rows, that is, on the batch.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

# torch takes two vectors at a time; AVX-512 has the longest ones, 16 numbers.
_NUMBERS_AT_A_TIME = 32


def in_whole_vectors(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return ``function(x)`` for a function of single elements; rows that fill no vectors are padded for it.

    On a CPU the bits are the same in any batch as long as torch has one thread, as it does beside native kernels: each
    further thread has an end of its own.

    Args:
        x: ``[..., size]`` float32, contiguous.
    """
    size = x.shape[-1]
    missing = -size % _NUMBERS_AT_A_TIME
    return function(F.pad(x, (0, missing)))[..., :size] if missing else function(x)
