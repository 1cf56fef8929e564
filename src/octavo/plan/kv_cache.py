"""What the KV cache of sequences takes: all layers, their windows, and what tensor parallelism shares."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.plan.memory import blocks_of_sequence
from octavo.plan.model_shape import LayerShape, ModelShape


@dataclass(frozen=True, slots=True)
class KVCacheLayout:
    """How an engine keeps keys and values on one GPU.

    Attributes:
        bytes_per_element: 2 for 16-bit types, 1 for fp8 and int8, 4 for float32.
        block_size: tokens in a block.
        frees_outside_window: whether a layer with a window keeps no more tokens than it needs. Octavo's engine keeps
            all of them.
        tensor_parallel_size: GPUs that share the key heads; a head is copied where there are more GPUs than heads.
        bytes_per_scale: of the scale beside each key and each value of a head, which int8 has.
    """

    bytes_per_element: int
    block_size: int = 16
    frees_outside_window: bool = False
    tensor_parallel_size: int = 1
    bytes_per_scale: int = 0

    def bytes_per_token(self, shape: ModelShape) -> int:
        """Return the bytes on one GPU that a token takes in all layers, as long as no window has passed it."""
        return sum(self.bytes_of_layer(layer) for layer in shape.layers)

    def bytes_of_sequence(self, shape: ModelShape, num_tokens: int) -> int:
        """Return the bytes on one GPU that a sequence takes, in whole blocks."""
        return (
            sum(
                self.bytes_of_layer(layer) * blocks_of_sequence(self._kept(layer, num_tokens), self.block_size)
                for layer in shape.layers
            )
            * self.block_size
        )

    def longest_sequence(self, shape: ModelShape, num_bytes: int, limit: int) -> int:
        """Return the longest sequence, at most ``limit`` tokens, that fits into ``num_bytes``; 0 if none does."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.bytes_of_sequence(shape, middle) <= num_bytes:
                low = middle
            else:
                high = middle - 1
        return low

    def _kept(self, layer: LayerShape, num_tokens: int) -> int:
        if layer.window is None or not self.frees_outside_window:
            return num_tokens
        return min(num_tokens, layer.window)

    def bytes_of_layer(self, layer: LayerShape) -> int:
        """Return the bytes on one GPU that a token takes in one layer."""
        attention = layer.attention
        heads = attention.num_kv_heads
        kept_heads = -(-heads // self.tensor_parallel_size)
        elements, scales = attention.kv_elements_per_token // heads, attention.kv_vectors_per_token // heads
        return kept_heads * (elements * self.bytes_per_element + scales * self.bytes_per_scale)
