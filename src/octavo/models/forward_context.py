"""What one forward pass needs to know beside its token ids, passed explicitly from the runner to every layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerKVCache:
    """The paged KV cache of one layer.

    Attributes:
        key, value: ``[num_blocks, block_size, num_kv_heads, head_dim]``. Block 0 is never given to a request: padding
            points at it. Under latent attention both are the same tensor.
        key_scales, value_scales: ``[num_blocks, block_size, num_kv_heads]`` float32 beside keys and values of int8.
    """

    key: Tensor
    value: Tensor
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    @classmethod
    def allocate(
        cls,
        num_layers: int,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        *,
        num_parts: int = 2,
    ) -> list[LayerKVCache]:
        """Return caches of the given shape of keys, whose memory is reserved but not yet written.

        They lie side by side: on huge pages of their own, each would leave the rest of its last page empty.

        Args:
            num_parts: 2 for keys and values, 1 if both are the same tensor.
        """
        import torch  # what else is here is used where torch is not loaded

        from octavo.kernels.cpu.huge_pages import empty_on_huge_pages

        sizes = (num_layers, num_parts, *shape)
        if device.type == "cpu":
            parts = empty_on_huge_pages(sizes, dtype)
        else:
            parts = torch.empty(sizes, dtype=dtype, device=device)
        caches = [cls(*(list(layer) * (2 // num_parts))) for layer in parts]
        if dtype is not torch.int8:
            return caches
        scales = torch.empty((num_layers, 2, *shape[:3]), dtype=torch.float32, device=device)
        return [
            replace(cache, key_scales=key, value_scales=value)
            for cache, (key, value) in zip(caches, scales, strict=True)
        ]

    @property
    def num_bytes(self) -> int:
        """Memory that the cache takes."""
        parts = (self.key, self.value, self.key_scales, self.value_scales)
        sizes = {part.data_ptr(): part.nbytes for part in parts if part is not None}
        return sum(sizes.values())


@dataclass(frozen=True, slots=True)
class ForwardContext:
    """The batch of one step: ``num_seqs`` sequences with ``num_tokens`` tokens to compute in all, laid end to end.

    Attributes:
        positions: ``[num_tokens]`` int64, place of each token in its sequence.
        slots: ``[num_tokens]`` int64, where each token's key and value go: block id * block_size + offset.
        block_tables: ``[num_seqs, max_blocks]`` int32, block ids of each sequence, padded with 0.
        query_starts: ``[num_seqs + 1]`` int32, first token of each sequence in the batch; the last entry is num_tokens.
        seq_lens: ``[num_seqs]`` int32, tokens of each sequence that have keys after this step.
        prompt_lens: ``[num_tokens]`` int64, prompt length of each token's sequence (dynamic rotary scaling needs it).
        query_lens_host, seq_lens_host: the same lengths as Python ints, so that no layer has to ask the device.
        kv_caches: one entry a layer.
    """

    positions: Tensor
    slots: Tensor
    block_tables: Tensor
    query_starts: Tensor
    seq_lens: Tensor
    prompt_lens: Tensor
    query_lens_host: Sequence[int]
    seq_lens_host: Sequence[int]
    kv_caches: Sequence[LayerKVCache]
