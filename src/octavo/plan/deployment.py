"""A deployment: which model on which GPUs for which load. What follows from it is in the modules beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from octavo.errors import ConfigError
from octavo.plan.fit import Fit, fit
from octavo.plan.hardware import Hardware
from octavo.plan.kv_cache import KVCacheLayout
from octavo.plan.model_shape import ModelShape
from octavo.plan.weights import DTYPE_BYTES, Quantization

DEFAULT_INPUT_LEN = 1024
DEFAULT_OUTPUT_LEN = 256
DEFAULT_MAX_NUM_SEQS = 256
KV_CACHE_BYTES: Mapping[str, int] = {**DTYPE_BYTES, "int8": 1, "fp8": 1}
"""Bytes of a number in a KV cache of a named type; ``auto`` is that of the weights."""
_INT8_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is asked for.

    Attributes:
        model: as the user named it.
        num_gpus: all GPUs; those that are not needed for one replica hold further replicas.
        tensor_parallel_size: GPUs that share one replica.
        dtype: float32, bfloat16 or float16.
        rounds_activations: bfloat16 was asked for by name on a CPU, whose engine then rounds activations, too.
        quantization: how the weights are packed; None if they are not.
        kv_cache_dtype: auto (that of ``dtype``), float32, bfloat16, float16, int8 or fp8.
        max_model_len: longest sequence; None is the longest that the model is made for and that fits.
        concurrency: requests at the same time in one replica; None is as many as fit.
        input_len, output_len: tokens of a request; None if it was not said.
        kv_cache_memory_bytes: what the KV cache gets; None is what is left, or on a CPU the engine's default.
        is_served: whether the engine of this version runs the family; it keeps all tokens in layers with a window.
    """

    model: str
    shape: ModelShape
    hardware: Hardware
    num_gpus: int = 1
    tensor_parallel_size: int = 1
    dtype: str = "bfloat16"
    rounds_activations: bool = False
    quantization: Quantization | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int | None = None
    concurrency: int | None = None
    input_len: int | None = None
    output_len: int | None = None
    gpu_memory_utilization: float = 0.9
    max_num_batched_tokens: int = 2048
    block_size: int = 16
    kv_cache_memory_bytes: int | None = None
    is_served: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be split evenly, lengths that the model is not made for, and int8 of latent vectors."""
        if self.num_gpus % self.tensor_parallel_size:
            raise ConfigError(
                f"{self.num_gpus} GPUs cannot be divided into replicas of {self.tensor_parallel_size} GPUs; choose a "
                "tensor_parallel_size that divides the number of GPUs"
            )
        if self.tensor_parallel_size not in self.possible_parallel_sizes:
            allowed = ", ".join(map(str, self.possible_parallel_sizes))
            raise ConfigError(
                f"{self.shape.num_attention_heads} attention heads cannot be shared by "
                f"{self.tensor_parallel_size} GPUs; tensor_parallel_size may be {allowed}"
            )
        if self.max_model_len is not None and self.max_model_len > self.shape.max_model_len:
            raise ConfigError(
                f"max_model_len {self.max_model_len:,} is longer than what the model is made for, "
                f"{self.shape.max_model_len:,} tokens"
            )
        if self.kv_cache_dtype == "int8" and self.shape.has_latent_attention:
            raise ConfigError(
                "kv_cache_dtype int8 is not supported with latent attention, whose cache is small already; leave it out"
            )
        if self.request_len > (self.max_model_len or self.shape.max_model_len):
            raise ConfigError(
                f"a request of {self.request_len:,} tokens (input and output) is longer than the longest sequence, "
                f"{self.max_model_len or self.shape.max_model_len:,} tokens"
            )

    @property
    def possible_parallel_sizes(self) -> tuple[int, ...]:
        """Numbers of GPUs up to 64 that can share the attention heads."""
        return tuple(size for size in range(1, 65) if self.shape.num_attention_heads % size == 0)

    @property
    def num_replicas(self) -> int:
        """How often the model is there."""
        return self.num_gpus // self.tensor_parallel_size

    @property
    def request_input_len(self) -> int:
        """Prompt of a request: as asked, else 1,024 tokens or what fits beside the output."""
        limit = self.max_model_len or self.shape.max_model_len
        return self.input_len or max(min(DEFAULT_INPUT_LEN, limit - self.request_output_len), 1)

    @property
    def request_output_len(self) -> int:
        """Output of a request: as asked, else 256 tokens or what fits."""
        limit = self.max_model_len or self.shape.max_model_len
        room = limit - (self.input_len or min(DEFAULT_INPUT_LEN, limit // 2))
        return self.output_len or max(min(DEFAULT_OUTPUT_LEN, room), 1)

    @property
    def request_len(self) -> int:
        """Length that a request reaches."""
        return self.request_input_len + self.request_output_len

    @property
    def asked_len(self) -> int:
        """Length of the sequences that are counted: that of requests if it was said, else ``max_model_len``."""
        if self.max_model_len is None or self.input_len is not None or self.output_len is not None:
            return self.request_len
        return self.max_model_len

    @property
    def max_num_seqs(self) -> int:
        """Most sequences that run at the same time."""
        return self.concurrency or DEFAULT_MAX_NUM_SEQS

    @property
    def wanted_quantization(self) -> str | None:
        """Name of a method that has to be asked for; None if the checkpoint is packed that way, or not at all."""
        if self.quantization is None or self.shape.quantization_config:
            return None
        return self.quantization.name

    @property
    def kv_bytes_per_element(self) -> int:
        """Bytes of a number in the KV cache."""
        return KV_CACHE_BYTES.get(self.kv_cache_dtype, DTYPE_BYTES[self.dtype])

    @property
    def kv_bytes_per_scale(self) -> int:
        """Bytes of the scale beside each key and each value of a head."""
        return _INT8_SCALE_BYTES if self.kv_cache_dtype == "int8" else 0

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that a token takes in the KV cache of a replica, on one GPU that had all of it."""
        layout = KVCacheLayout(self.kv_bytes_per_element, bytes_per_scale=self.kv_bytes_per_scale)
        return layout.bytes_per_token(self.shape)

    def fit(self) -> Fit:
        """Divide the memory of a GPU, with the longest sequence that was asked for or that fits."""
        if self.max_model_len is not None:
            return self._fit(self.max_model_len)
        whole = self._fit(self.shape.max_model_len)
        if whole.fits:
            return whole
        return self._fit(max(self._longest_that_fits(), self.request_len))

    def is_met_by(self, found: Fit) -> bool:
        """Return whether the model, its longest sequence, and the asked concurrency fit."""
        return found.fits and found.max_batch(self.asked_len) >= (self.concurrency or 1)

    def _longest_that_fits(self) -> int:
        """Return the longest sequence of which one fits. What is reserved for it grows with it, so it is searched."""
        low, high = 0, self.shape.max_model_len
        while low < high:
            middle = (low + high + 1) // 2
            if self._fit(middle).fits:
                low = middle
            else:
                high = middle - 1
        return low

    def _fit(self, max_model_len: int) -> Fit:
        return fit(
            self.shape,
            memory_bytes=self.hardware.memory_bytes,
            max_model_len=max_model_len,
            dtype=self.dtype,
            quantization=self.quantization,
            kv_bytes_per_element=self.kv_bytes_per_element,
            kv_bytes_per_scale=self.kv_bytes_per_scale,
            gpu_memory_utilization=self.gpu_memory_utilization,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            block_size=self.block_size,
            tensor_parallel_size=self.tensor_parallel_size,
            frees_outside_window=not self.is_served,
            kv_cache_memory_bytes=self.kv_cache_memory_bytes,
            on_cpu=self.hardware.is_cpu,
        )
