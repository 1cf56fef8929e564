"""Norms of heads, rotation and the write to the KV cache, in one pass over query, key and value."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.cpu.kv_cache import kv_type_of
from octavo.kernels.cpu.loading import load_native


def rotary_write_kv(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos: Tensor,
    sin: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
    query_norm_weight: Tensor | None = None,
    key_norm_weight: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """As :func:`octavo.kernels.reference.rotary_write_kv`, for float32 and a cache of any float type.

    Query, key and value may be slices of one tensor. Of cos and sin the first half of each row is read.
    """
    num_tokens, num_heads, head_dim = query.shape
    num_kv_heads = key_cache.shape[2]
    kv_type = kv_type_of(key_cache, value_cache, head_dim)
    if key.shape != (num_tokens, num_kv_heads, head_dim) or value.shape != key.shape:
        raise TypeError(f"key and value must be {[num_tokens, num_kv_heads, head_dim]}, not {list(key.shape)}")
    if cos.shape != (num_tokens, head_dim) or sin.shape != cos.shape or slots.shape != (num_tokens,):
        raise TypeError(f"cos and sin must be {[num_tokens, head_dim]}, not {list(cos.shape)}, and slots {num_tokens}")
    if slots.dtype is not torch.int64:
        raise TypeError(f"slots must be torch.int64, not {slots.dtype}")
    query, key, value = _heads(query), _heads(key), _heads(value)
    cos, sin, slots = _dense(cos), _dense(sin), slots.contiguous()
    if query_norm_weight is not None:
        query_norm_weight = _dense(query_norm_weight)
    if key_norm_weight is not None:
        key_norm_weight = _dense(key_norm_weight)
    rotated = torch.empty((num_tokens, num_heads, head_dim))
    load_native().rotary_write_kv(
        query.data_ptr(),
        query.stride(0),
        key.data_ptr(),
        key.stride(0),
        value.data_ptr(),
        value.stride(0),
        num_tokens,
        num_heads,
        rotated.data_ptr(),
        cos.data_ptr(),
        sin.data_ptr(),
        0 if query_norm_weight is None else query_norm_weight.data_ptr(),
        0 if key_norm_weight is None else key_norm_weight.data_ptr(),
        eps,
        key_cache.data_ptr(),
        value_cache.data_ptr(),
        kv_type,
        num_kv_heads,
        head_dim,
        slots.data_ptr(),
    )
    return rotated


def _heads(x: Tensor) -> Tensor:
    """Return ``x`` with the heads of a token side by side."""
    _check_float32(x)
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


def _dense(x: Tensor) -> Tensor:
    _check_float32(x)
    return x.contiguous()


def _check_float32(x: Tensor) -> None:
    if x.dtype is not torch.float32:
        raise TypeError(f"torch.float32 is needed, not {x.dtype}")
