"""The arithmetic of memory: what a token of KV cache costs, and how many blocks fit.

Pure integers; it knows neither tensors nor configurations.
"""

from __future__ import annotations

CPU_KV_CACHE_SHARE = 4
MAX_DEFAULT_CPU_KV_CACHE_BYTES = 4 * 2**30


def kv_bytes_per_token(
    num_layers: int,
    num_kv_heads: int,
    head_dim: int,
    bytes_per_element: int,
    bytes_per_scale: int = 0,
    *,
    num_parts: int = 2,
) -> int:
    """Return the bytes that one token takes in the caches of all layers.

    Args:
        bytes_per_scale: of the scale beside each head of an int8 cache.
        num_parts: 2 for keys and values, 1 where both are made from the same numbers.
    """
    return num_parts * num_layers * num_kv_heads * (head_dim * bytes_per_element + bytes_per_scale)


def blocks_that_fit(memory_bytes: int, block_size: int, bytes_per_token: int) -> int:
    """Return how many whole blocks of ``block_size`` tokens fit into ``memory_bytes``; 0 if it is negative."""
    return max(memory_bytes, 0) // (block_size * bytes_per_token)


def default_cpu_kv_cache_bytes(available_bytes: int) -> int:
    """Return the KV cache of an engine on a CPU that was told no size: a quarter of what is free, at most 4 GiB."""
    return min(max(available_bytes, 0) // CPU_KV_CACHE_SHARE, MAX_DEFAULT_CPU_KV_CACHE_BYTES)


def blocks_of_sequence(num_tokens: int, block_size: int) -> int:
    """Return the blocks that a sequence of ``num_tokens`` occupies, the last one perhaps partly filled."""
    return -(-num_tokens // block_size)
