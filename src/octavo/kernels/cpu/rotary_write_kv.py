"""Norms of heads, rotation and the write to the KV cache, in one pass over query, key and value."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import address_of
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
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
) -> Tensor:
    """As :func:`octavo.kernels.reference.rotary_write_kv`, for float32 and a cache of any type.

    Query, key and value may be slices of one tensor. Of cos and sin the first half of each row is read.
    """
    num_tokens, num_heads, head_dim = query.shape
    kv_type = kv_type_of(key_cache, value_cache, head_dim, key_scales, value_scales)
    num_kv_heads = key_cache.shape[2]
    kv_shape, angles_shape = (num_tokens, num_kv_heads, head_dim), cos.shape
    rotary_dim = angles_shape[-1]
    if (
        key.shape != kv_shape
        or value.shape != kv_shape
        or angles_shape != (num_tokens, rotary_dim)
        or sin.shape != angles_shape
        or rotary_dim > head_dim
        or rotary_dim % 2
    ):
        raise TypeError(
            f"key and value must be {list(kv_shape)}, cos and sin [{num_tokens}, an even number up to {head_dim}], not "
            f"{list(key.shape)}, {list(value.shape)}, {list(cos.shape)} and {list(sin.shape)}"
        )
    if not (query.dtype is key.dtype is value.dtype is cos.dtype is sin.dtype is torch.float32):
        raise TypeError("query, key, value, cos and sin must be torch.float32")
    if slots.dtype is not torch.int64 or slots.shape != (num_tokens,):
        raise TypeError(f"slots must be torch.int64 [{num_tokens}], not {slots.dtype} {list(slots.shape)}")
    query, key, value = _with_dense_heads(query), _with_dense_heads(key), _with_dense_heads(value)
    cos, sin, slots = cos.contiguous(), sin.contiguous(), slots.contiguous()
    if query_norm_weight is not None:
        query_norm_weight = _norm_weight(query_norm_weight, head_dim)
    if key_norm_weight is not None:
        key_norm_weight = _norm_weight(key_norm_weight, head_dim)
    rotated = torch.empty(num_tokens, num_heads, head_dim)
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
        address_of(query_norm_weight),
        address_of(key_norm_weight),
        eps,
        key_cache.data_ptr(),
        value_cache.data_ptr(),
        kv_type,
        num_kv_heads,
        head_dim,
        slots.data_ptr(),
        rotary_dim,
        address_of(key_scales),
        address_of(value_scales),
    )
    return rotated


def _with_dense_heads(x: Tensor) -> Tensor:
    """Return ``x`` with the heads of a token side by side."""
    _, head_stride, dim_stride = x.stride()
    return x if dim_stride == 1 and head_stride == x.shape[2] else x.contiguous()


def _norm_weight(weight: Tensor, head_dim: int) -> Tensor:
    if weight.dtype is not torch.float32 or weight.shape != (head_dim,):
        raise TypeError(f"norm weights must be torch.float32 [{head_dim}], not {weight.dtype} {list(weight.shape)}")
    return weight.contiguous()
