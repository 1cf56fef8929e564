"""How a layer's paged KV cache is handed to the native kernels."""

from __future__ import annotations

import torch
from torch import Tensor

# The numbers of KvType in native/kv_cache.h.
_KV_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_INT8 = 3


def kv_type_of(
    key_cache: Tensor, value_cache: Tensor, head_dim: int, key_scales: Tensor | None, value_scales: Tensor | None
) -> int:
    """Return the native number of a cache's dtype.

    Raises:
        TypeError: the tensors are no cache of one layer, or of heads of another size, or not contiguous.
    """
    shape = key_cache.shape
    number = _KV_TYPES.get(key_cache.dtype)
    if number is None and key_scales is not None and value_scales is not None and key_cache.dtype is torch.int8:
        _check_scales(key_scales, shape)
        _check_scales(value_scales, shape)
        number = _INT8
    elif key_scales is not None or value_scales is not None:
        number = None
    if (
        number is None
        or value_cache.dtype is not key_cache.dtype
        or value_cache.shape != shape
        or shape[3] != head_dim
        or not (key_cache.is_contiguous() and value_cache.is_contiguous())
    ):
        raise TypeError(
            f"caches must be two contiguous tensors [num_blocks, block_size, num_kv_heads, {head_dim}] of float32, "
            f"bfloat16 or float16, or of int8 with scales, not {key_cache.dtype} {list(shape)} and "
            f"{value_cache.dtype} {list(value_cache.shape)} {'without' if key_scales is None else 'with'} scales"
        )
    return number


def _check_scales(scales: Tensor, shape: torch.Size) -> None:
    if scales.dtype is not torch.float32 or scales.shape != shape[:3] or not scales.is_contiguous():
        raise TypeError(
            f"scales must be contiguous torch.float32 {list(shape[:3])}, not {scales.dtype} {list(scales.shape)}"
        )
