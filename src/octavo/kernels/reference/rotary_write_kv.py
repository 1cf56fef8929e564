"""What stands between the projections and the attention: norms of heads, rotation, and the write to the KV cache."""

from __future__ import annotations

from torch import Tensor

from octavo.kernels.reference.apply_rotary import apply_rotary
from octavo.kernels.reference.rms_norm import rms_norm
from octavo.kernels.reference.write_kv import write_kv


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
    """Rotate query and key by the angles of their positions, and store key and value in their slots.

    Args:
        query: ``[num_tokens, num_heads, head_dim]``.
        key, value: ``[num_tokens, num_kv_heads, head_dim]``.
        cos, sin: ``[num_tokens, rotary_dim]``, each angle twice: once for either half of what is rotated. Dimensions of
            a head from rotary_dim on are not.
        key_cache, value_cache: ``[num_blocks, block_size, num_kv_heads, head_dim]``, contiguous; written in place.
        slots: ``[num_tokens]`` int64, block id * block_size + offset.
        query_norm_weight, key_norm_weight: ``[head_dim]``; heads are normalised before rotation where there is one.
        eps: of those norms.
        key_scales, value_scales: ``[num_blocks, block_size, num_kv_heads]`` float32, written in place; for caches of
            int8 only.

    Returns:
        The rotated query, a new tensor of the same shape.
    """
    if query_norm_weight is not None:
        query, _ = rms_norm(query, query_norm_weight, eps)
    if key_norm_weight is not None:
        key, _ = rms_norm(key, key_norm_weight, eps)
    query, key = apply_rotary(query, key, cos, sin)
    write_kv(key, value, key_cache, value_cache, slots, key_scales, value_scales)
    return query
