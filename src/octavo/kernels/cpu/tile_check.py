"""Whether the tiles of AMX compute here what vectors do.

Their kernels were written and tested against a model of the instructions. So each process that would use them first
lets both multiply a small matrix, which takes less than a millisecond.
"""

from __future__ import annotations

import logging
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)
_NUM_ROWS, _IN_FEATURES, _OUT_FEATURES = 37, 144, 70  # more than a tile, and a rest, of each


def fall_back_from_wrong_tiles(native: ModuleType, vectors: str) -> None:
    """Go on with vectors, and say so, if the tiles in use give other products than they do.

    Args:
        vectors: the instruction set without tiles.
    """
    tiles = native.active_isa()
    with_tiles = _products(native)
    native.set_active_isa(vectors)
    with_vectors = _products(native)
    # Whole numbers are exact; sums of bfloat16 products are rounded in another order.
    if np.array_equal(with_tiles[0], with_vectors[0]) and np.allclose(
        with_tiles[1], with_vectors[1], rtol=1e-4, atol=1e-3
    ):
        native.set_active_isa(tiles)
    else:
        logger.warning("%s gives wrong products on this machine: the CPU kernels use %s", tiles, vectors)


def _products(native: ModuleType) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the same rows times an int8 weight, and times a bfloat16 one."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((_NUM_ROWS, _IN_FEATURES), dtype=np.float32)
    values = generator.integers(-127, 128, (_OUT_FEATURES, _IN_FEATURES), dtype=np.int8)
    scales = np.full(_OUT_FEATURES, 0.01, dtype=np.float32)
    int8_weight = native.pack_int8(_OUT_FEATURES, _IN_FEATURES, False)
    int8_weight.fill(values.ctypes.data, _IN_FEATURES, scales.ctypes.data, 0, _OUT_FEATURES)
    upper_halves = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)  # exact: seven bits and a sign
    bf16_weight = native.pack(_OUT_FEATURES, _IN_FEATURES, "bfloat16_pairs", False)
    bf16_weight.fill(upper_halves.ctypes.data, 0, _OUT_FEATURES, _IN_FEATURES)
    products = [np.zeros((_NUM_ROWS, _OUT_FEATURES), dtype=np.float32) for _ in range(2)]
    rows, strides = x.ctypes.data, (_OUT_FEATURES, 0, 0, 0)
    native.int8_linear(int8_weight, rows, _IN_FEATURES, 0, _NUM_ROWS, products[0].ctypes.data, *strides)
    native.linear(bf16_weight, rows, _NUM_ROWS, _IN_FEATURES, products[1].ctypes.data, *strides)
    return products[0], products[1]
