"""Writing keys and values into the paged KV cache."""

from __future__ import annotations

from torch import Tensor

from octavo.kernels.reference.quantize_kv import quantize_kv


def write_kv(
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
) -> None:
    """Store the key and value of each token in its slot, in place.

    Args:
        key, value: ``[num_tokens, num_kv_heads, head_dim]``.
        key_cache, value_cache: ``[num_blocks, block_size, num_kv_heads, head_dim]``, contiguous; of another type
            than key and value if they are to be rounded.
        slots: ``[num_tokens]`` int64, block id * block_size + offset.
        key_scales, value_scales: ``[num_blocks, block_size, num_kv_heads]`` float32, for caches of int8 only: each
            token and head is rounded with a scale of its own (:func:`quantize_kv`).
    """
    for new, cache, scales in ((key, key_cache, key_scales), (value, value_cache, value_scales)):
        if scales is None:
            stored = new.to(cache.dtype)
        else:
            stored, scales_of_new = quantize_kv(new)
            scales.view(-1, new.shape[1]).index_copy_(0, slots, scales_of_new)
        cache.view(-1, *new.shape[1:]).index_copy_(0, slots, stored)
