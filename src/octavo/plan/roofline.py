"""Step times from first principles: what must be read, computed and exchanged, over what the hardware can do.

The roofline model (Williams, Waterman, Patterson 2009): matrices and attention each take as long as the slower of their
memory traffic and their arithmetic. Real kernels reach a part of the data sheet's figures only; the parts below are
what well-tuned kernels are known to reach, so the result is an estimate for a well-tuned engine, no measurement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from octavo.plan.kv_cache import KVCacheLayout
from octavo.plan.weights import DTYPE_BYTES, Quantization, head_bytes, linear_bytes

if TYPE_CHECKING:
    from octavo.plan.hardware import Hardware
    from octavo.plan.model_shape import Linear, ModelShape
    from octavo.plan.step_time import StepShape

# gpt-fast reports 1,397 GB/s for Llama-2-7B in bfloat16 at batch size 1 on an A100-80GB (2,039 GB/s).
BANDWIDTH_EFFICIENCY = 0.7
# The largest bfloat16 matrix products reach 80 to 87 % on H100 and A100 (S. Bekman, "Machine Learning Engineering",
# maximum achievable matmul FLOPS); a whole prefill has smaller ones, and norms and copies between them.
FLOPS_EFFICIENCY = 0.6
# Part of a link's bandwidth that a ring all-reduce of large messages reaches.
LINK_EFFICIENCY = 0.7
ALL_REDUCE_LATENCY_S = 10e-6
STEP_OVERHEAD_S = 0.5e-3


@dataclass(frozen=True, slots=True)
class _Matrices:
    """Matrices of one kind, summed over all layers, on one GPU.

    Attributes:
        num_bytes: what reading all of them takes.
        macs_per_token: multiplications with addition for each token.
        count, num_active: experts, and how many of them a token uses; 1 and 1 for matrices that all tokens use.
    """

    num_bytes: float
    macs_per_token: float
    count: int
    num_active: int

    def bytes_read(self, num_tokens: int) -> float:
        """Return the bytes that a step reads: of experts those that at least one token is sent to, on average."""
        idle = (1 - self.num_active / self.count) ** num_tokens
        return self.num_bytes * (1 - idle)


@dataclass(frozen=True, slots=True)
class _Attention:
    """Attention of all layers with the same window, on one GPU."""

    window: int | None
    kv_bytes_per_token: float
    macs_per_pair: float


@dataclass(frozen=True)
class RooflineStepTime:
    """A ``StepTimeModel`` of a model on one or more equal GPUs.

    Attributes:
        dtype: type of activations and of weights that are not packed.
        quantization: how the weights are packed; None if they are not.
        kv_bytes_per_element: 2 for 16-bit keys and values, 1 for fp8 and int8, 4 for float32; None is that of
            ``dtype``.
        kv_bytes_per_scale: of the scales beside int8.
        tensor_parallel_size: GPUs that share each layer, with two all-reduces a layer.
        bandwidth_efficiency, flops_efficiency: parts of the data sheet's figures that are reached.
        step_overhead_s: what each step takes on top: scheduling, launches, sampling.
    """

    shape: ModelShape
    hardware: Hardware
    dtype: str = "bfloat16"
    quantization: Quantization | None = None
    kv_bytes_per_element: int | None = None
    kv_bytes_per_scale: int = 0
    tensor_parallel_size: int = 1
    bandwidth_efficiency: float = BANDWIDTH_EFFICIENCY
    flops_efficiency: float = FLOPS_EFFICIENCY
    step_overhead_s: float = STEP_OVERHEAD_S

    def step_seconds(self, step: StepShape) -> float:
        """Return the seconds that a step takes, scheduling and sampling included."""
        return (
            self.step_overhead_s
            + self._matrix_seconds(step)
            + self._attention_seconds(step)
            + self._all_reduce_seconds(step.num_tokens)
        )

    def _matrix_seconds(self, step: StepShape) -> float:
        """Return the seconds to read the weights or those to multiply with them, whichever are more."""
        head = self._head
        num_bytes = sum(matrices.bytes_read(step.num_tokens) for matrices in self._matrices)
        num_bytes += head.num_bytes if step.num_samples else 0
        macs = sum(matrices.macs_per_token for matrices in self._matrices)
        compute = 2 * macs * step.num_tokens / self._matrix_flops
        compute += 2 * head.macs_per_token * step.num_samples / self._plain_flops
        return max(num_bytes / self._bandwidth, compute)

    def _attention_seconds(self, step: StepShape) -> float:
        num_bytes = operations = 0.0
        for attention in self._attentions:
            # Exact where all sequences are equally long; a step does not say how its tokens are distributed.
            window = attention.window
            context = step.num_context_tokens
            pairs = step.num_attention_pairs
            if window is not None:
                context = min(context, window * step.num_seqs + step.num_tokens - step.num_seqs)
                pairs = min(pairs, window * step.num_tokens)
            num_bytes += attention.kv_bytes_per_token * context
            operations += 2 * attention.macs_per_pair * pairs
        return max(num_bytes / self._bandwidth, operations / self._plain_flops)

    def _all_reduce_seconds(self, num_tokens: int) -> float:
        """Return the seconds of two ring all-reduces of the hidden states in each layer."""
        size = self.tensor_parallel_size
        if size == 1:
            return 0.0
        message = num_tokens * self.shape.hidden_size * DTYPE_BYTES[self.dtype]
        one = 2 * (size - 1) / size * message / (self.hardware.link_bandwidth * LINK_EFFICIENCY)
        return 2 * self.shape.num_layers * (ALL_REDUCE_LATENCY_S + one)

    @cached_property
    def _bandwidth(self) -> float:
        return self.hardware.bandwidth * self.bandwidth_efficiency

    @cached_property
    def _plain_flops(self) -> float:
        return self.hardware.flops_of(self.dtype) * self.flops_efficiency

    @cached_property
    def _matrix_flops(self) -> float:
        compute = self.quantization.compute if self.quantization else "16bit"
        return self.hardware.flops_of(self.dtype if compute == "16bit" else compute) * self.flops_efficiency

    @cached_property
    def _matrices(self) -> tuple[_Matrices, ...]:
        kinds: dict[tuple[int, int], list[Linear]] = {}
        for linear in self.shape.linears():
            kinds.setdefault((linear.count, linear.num_active), []).append(linear)
        return tuple(self._sum(linears, *kind) for kind, linears in kinds.items())

    def _sum(self, linears: Iterable[Linear], count: int, num_active: int) -> _Matrices:
        element = DTYPE_BYTES[self.dtype]
        num_bytes = macs = 0.0
        for linear in linears:
            num_bytes += linear_bytes(linear, element, self.quantization)
            macs += linear.in_features * linear.out_features * num_active
        return _Matrices(num_bytes / self.tensor_parallel_size, macs / self.tensor_parallel_size, count, num_active)

    @cached_property
    def _head(self) -> _Matrices:
        size = self.shape.vocab_size * self.shape.hidden_size / self.tensor_parallel_size
        num_bytes = head_bytes(self.shape, DTYPE_BYTES[self.dtype], self.quantization) / self.tensor_parallel_size
        return _Matrices(num_bytes, size, 1, 1)

    @cached_property
    def _attentions(self) -> tuple[_Attention, ...]:
        element = self.kv_bytes_per_element or DTYPE_BYTES[self.dtype]
        layout = KVCacheLayout(
            bytes_per_element=element,
            bytes_per_scale=self.kv_bytes_per_scale,
            tensor_parallel_size=self.tensor_parallel_size,
        )
        kinds: dict[int | None, _Attention] = {}
        for layer in self.shape.layers:
            before = kinds.get(layer.window, _Attention(layer.window, 0, 0))
            kinds[layer.window] = _Attention(
                layer.window,
                before.kv_bytes_per_token + layout.bytes_of_layer(layer),
                before.macs_per_pair + layer.attention.macs_per_pair / self.tensor_parallel_size,
            )
        return tuple(kinds.values())
