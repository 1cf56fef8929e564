"""Attention that reads keys and values where they are in the paged cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import address_of
from octavo.kernels.cpu.kv_cache import kv_type_of
from octavo.kernels.cpu.loading import load_native


def paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    query_starts: Tensor,
    seq_lens: Tensor,
    query_lens_host: Sequence[int],
    seq_lens_host: Sequence[int],
    scale: float,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    *,
    rounded: bool = False,
) -> Tensor:
    """As :func:`octavo.kernels.reference.paged_attention`, for float32 queries and a cache of any type.

    Scores, weights and sums are float32. ``rounded`` queries and weights are bfloat16 for products with a cache of
    bfloat16 where the processor has such products (AVX-512 BF16) and heads are multiples of 32 numbers, at most 1,024.
    A token's result is the same bits whatever else is in the batch, however its sequence is cut into chunks or single
    tokens, and however many threads there are. NaN and infinity in a query, or in a key or value that it sees, go
    through as in torch; what it does not see has no effect, NaN included. Lengths are read from the tensors, which are
    on the host here.
    """
    num_tokens, num_heads, head_dim = query.shape
    _, block_size, num_kv_heads, _ = key_cache.shape
    kv_type = kv_type_of(key_cache, value_cache, head_dim, key_scales, value_scales)
    if query.dtype is not torch.float32 or num_heads % num_kv_heads:
        raise TypeError(
            f"queries must be torch.float32 with a multiple of {num_kv_heads} heads, not {query.dtype} "
            f"{list(query.shape)}"
        )
    if sinks is not None and (sinks.dtype is not torch.float32 or sinks.shape != (num_heads,)):
        raise TypeError(f"sinks must be torch.float32 [{num_heads}], not {sinks.dtype} {list(sinks.shape)}")
    num_seqs = len(seq_lens_host)
    if not (block_tables.dtype is query_starts.dtype is seq_lens.dtype is torch.int32) or block_tables.stride(1) != 1:
        raise TypeError("block tables, query starts and lengths must be torch.int32 with contiguous rows")
    _, head_stride, dim_stride = query.stride()
    if dim_stride != 1 or head_stride != head_dim:
        query = query.contiguous()
    query_starts, seq_lens = query_starts.contiguous(), seq_lens.contiguous()
    sinks = None if sinks is None else sinks.contiguous()
    output = torch.empty(num_tokens, num_heads, head_dim)
    load_native().paged_attention(
        query.data_ptr(),
        query.stride(0),
        output.data_ptr(),
        num_heads,
        key_cache.data_ptr(),
        value_cache.data_ptr(),
        kv_type,
        num_kv_heads,
        head_dim,
        block_size,
        block_tables.data_ptr(),
        block_tables.stride(0),
        query_starts.data_ptr(),
        seq_lens.data_ptr(),
        num_seqs,
        scale,
        sliding_window or 0,
        address_of(key_scales),
        address_of(value_scales),
        soft_cap or 0.0,
        address_of(sinks),
        rounded,
    )
    return output
