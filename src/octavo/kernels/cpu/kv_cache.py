"""How a layer's paged KV cache is handed to the native kernels."""

from __future__ import annotations

import torch
from torch import Tensor

# The numbers of KvType in native/kv_cache.h.
_KV_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def kv_type_of(key_cache: Tensor, value_cache: Tensor, head_dim: int) -> int:
    """Return the native number of a cache's dtype.

    Raises:
        TypeError: the two tensors are no cache of one layer, or of heads of another size, or not contiguous.
    """
    dtype, shape = key_cache.dtype, key_cache.shape
    if (
        dtype not in _KV_TYPES
        or value_cache.dtype is not dtype
        or value_cache.shape != shape
        or shape[3] != head_dim
        or not (key_cache.is_contiguous() and value_cache.is_contiguous())
    ):
        raise TypeError(
            f"caches must be two contiguous tensors [num_blocks, block_size, num_kv_heads, {head_dim}] of float32, "
            f"bfloat16 or float16, not {dtype} {list(shape)} and {value_cache.dtype} {list(value_cache.shape)}"
        )
    return _KV_TYPES[dtype]
