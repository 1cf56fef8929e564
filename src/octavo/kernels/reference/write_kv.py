"""Writing keys and values into the paged KV cache."""

from __future__ import annotations

from torch import Tensor


def write_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """Store the key and value of each token in its slot, in place.

    Args:
        key, value: ``[num_tokens, num_kv_heads, head_dim]``.
        key_cache, value_cache: ``[num_blocks, block_size, num_kv_heads, head_dim]``, contiguous; of another type
            than key and value if they are to be rounded.
        slots: ``[num_tokens]`` int64, block id * block_size + offset.
    """
    key_cache.view(-1, *key.shape[1:]).index_copy_(0, slots, key.to(key_cache.dtype))
    value_cache.view(-1, *value.shape[1:]).index_copy_(0, slots, value.to(value_cache.dtype))
