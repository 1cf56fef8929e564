"""What fits into a GPU's memory: weights, activations, overhead, and what is left for the KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.plan.activations import activation_bytes, state_bytes
from octavo.plan.kv_cache import KVCacheLayout
from octavo.plan.memory import blocks_that_fit, default_cpu_kv_cache_bytes
from octavo.plan.model_shape import ModelShape
from octavo.plan.weights import DTYPE_BYTES, Quantization, weight_bytes

# CUDA context, loaded kernels, cuBLAS workspaces and fragmentation of one process; an allowance, not a measurement.
GPU_OVERHEAD_BYTES = 2**30
# What a collective communication library keeps for its buffers on each of several GPUs, on top.
COMMUNICATION_BYTES = 2**29


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How the memory of one GPU is divided; all GPUs that share a model look the same.

    Attributes:
        total_bytes: memory of the GPU.
        allowed_bytes: the part of it that may be used.
        weight_bytes, activation_bytes, overhead_bytes: what is taken before there is a KV cache.
        kv_bytes_per_token: of the cache, on one GPU.
        layout: how the cache is kept.
        shape: the model.
        max_model_len: longest sequence, of which one has to fit.
        kv_cache_limit: what the cache gets at most; None is all that is left.
    """

    total_bytes: int
    allowed_bytes: int
    weight_bytes: int
    activation_bytes: int
    overhead_bytes: int
    kv_bytes_per_token: int
    layout: KVCacheLayout
    shape: ModelShape
    max_model_len: int
    kv_cache_limit: int | None = None

    @property
    def kv_cache_bytes(self) -> int:
        """What there is for the KV cache; negative if there is not even room for the rest."""
        left = self.allowed_bytes - self.weight_bytes - self.activation_bytes - self.overhead_bytes
        return left if self.kv_cache_limit is None else min(left, self.kv_cache_limit)

    @property
    def num_kv_blocks(self) -> int:
        """Blocks that requests may hold together, if all layers keep all tokens; one more is padding."""
        return max(blocks_that_fit(self.kv_cache_bytes, self.layout.block_size, self.kv_bytes_per_token) - 1, 0)

    @property
    def usable_kv_bytes(self) -> int:
        """What requests may hold together: without the block that is padding; 0 if nothing is left."""
        return max(self.kv_cache_bytes - self.layout.block_size * self.kv_bytes_per_token, 0)

    @property
    def fits(self) -> bool:
        """Whether the model and one sequence of the greatest length fit."""
        return self.missing_bytes == 0

    @property
    def missing_bytes(self) -> int:
        """What is missing for the model and one sequence of the greatest length; 0 if nothing is."""
        padding = self.layout.block_size * self.kv_bytes_per_token
        needed = self.layout.bytes_of_sequence(self.shape, self.max_model_len) + padding
        return max(needed - self.kv_cache_bytes, 0)

    def max_batch(self, num_tokens: int) -> int:
        """Return how many sequences of ``num_tokens`` fit at the same time."""
        return self.usable_kv_bytes // self.layout.bytes_of_sequence(self.shape, num_tokens)

    def max_context(self, batch: int) -> int:
        """Return the longest sequence, at most what the model is made for, of which ``batch`` fit."""
        return self.layout.longest_sequence(self.shape, self.usable_kv_bytes // batch, self.shape.max_model_len)


def fit(
    shape: ModelShape,
    *,
    memory_bytes: int,
    max_model_len: int,
    dtype: str | None = None,
    quantization: Quantization | None = None,
    kv_bytes_per_element: int | None = None,
    kv_bytes_per_scale: int = 0,
    gpu_memory_utilization: float = 0.9,
    max_num_seqs: int = 256,
    max_num_batched_tokens: int = 2048,
    block_size: int = 16,
    tensor_parallel_size: int = 1,
    frees_outside_window: bool = False,
    overhead_bytes: int | None = None,
    kv_cache_memory_bytes: int | None = None,
    on_cpu: bool = False,
) -> Fit:
    """Divide the memory of each of ``tensor_parallel_size`` equal GPUs, or that of a machine without one.

    Args:
        memory_bytes: memory of one GPU; what is free of the machine's memory on a CPU.
        dtype: float32, bfloat16 or float16; None is the checkpoint's.
        quantization: how the weights are packed; None if they are not.
        kv_bytes_per_element: 1 for fp8 and int8 keys and values; None is that of ``dtype``.
        kv_bytes_per_scale: of the scales beside int8.
        frees_outside_window: see ``KVCacheLayout``.
        overhead_bytes: None is an allowance for the CUDA context and, between several GPUs, for communication.
        kv_cache_memory_bytes: what the KV cache gets; None is what is left, or on a CPU the engine's default.
        on_cpu: the model runs on the CPU; ``gpu_memory_utilization`` means nothing there.
    """
    dtype = dtype or shape.dtype
    element = DTYPE_BYTES[dtype]
    layout = KVCacheLayout(
        bytes_per_element=kv_bytes_per_element or element,
        block_size=block_size,
        frees_outside_window=frees_outside_window,
        tensor_parallel_size=tensor_parallel_size,
        bytes_per_scale=kv_bytes_per_scale,
    )
    weights = -(-weight_bytes(shape, dtype, quantization) // tensor_parallel_size)
    if on_cpu:
        overhead_bytes = overhead_bytes or 0
        kv_cache_memory_bytes = kv_cache_memory_bytes or default_cpu_kv_cache_bytes(memory_bytes - weights)
    elif overhead_bytes is None:
        overhead_bytes = GPU_OVERHEAD_BYTES + (COMMUNICATION_BYTES if tensor_parallel_size > 1 else 0)
    return Fit(
        total_bytes=memory_bytes,
        allowed_bytes=memory_bytes if on_cpu else int(memory_bytes * gpu_memory_utilization),
        weight_bytes=weights,
        activation_bytes=activation_bytes(
            shape,
            element_bytes=element,
            max_num_batched_tokens=max_num_batched_tokens,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            tensor_parallel_size=tensor_parallel_size,
        ),
        overhead_bytes=overhead_bytes
        + state_bytes(max_num_seqs=max_num_seqs, max_model_len=max_model_len, block_size=block_size),
        kv_bytes_per_token=layout.bytes_per_token(shape),
        layout=layout,
        shape=shape,
        max_model_len=max_model_len,
        kv_cache_limit=kv_cache_memory_bytes,
    )
