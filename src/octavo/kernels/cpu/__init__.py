"""Kernels in C++ for CPUs, and what is known about them when they are missing.

The native module is built when the package is installed, if there is a compiler (``native/CMakeLists.txt``); how to add
a kernel to it is said in ``native/kernel.h``. Activations are float32 here; weights keep the type of the checkpoint.
"""

from octavo.kernels.cpu.gelu_tanh_and_mul import gelu_tanh_and_mul
from octavo.kernels.cpu.grouped_linear import (
    PackedInt4Weight,
    PackedInt8GroupsWeight,
    int4_linear,
    int4_linear_silu_and_mul,
    int8_groups_linear,
    int8_groups_linear_silu_and_mul,
    pack_int4,
    pack_int8_groups,
)
from octavo.kernels.cpu.linear import WEIGHT_DTYPES, PackedWeight, embedding, linear, linear_silu_and_mul, pack
from octavo.kernels.cpu.loading import NativeStatus, has_native, load_native, native_status
from octavo.kernels.cpu.paged_attention import paged_attention
from octavo.kernels.cpu.quantized_linear import (
    PackedInt8Weight,
    QuantizedRows,
    int8_embedding,
    int8_linear,
    int8_linear_silu_and_mul,
    pack_int8,
)
from octavo.kernels.cpu.rms_norm import rms_norm
from octavo.kernels.cpu.rotary_write_kv import rotary_write_kv
from octavo.kernels.cpu.sampling import apply_penalties, apply_token_bitmask, sample_tokens, top_logprobs
from octavo.kernels.cpu.silu_and_mul import silu_and_mul
from octavo.kernels.cpu.threads import default_num_threads
from octavo.kernels.cpu.varlen_attention import varlen_attention
from octavo.kernels.cpu.weight_rounding import quantize_int4, quantize_int8

__all__ = [
    "WEIGHT_DTYPES",
    "NativeStatus",
    "PackedInt4Weight",
    "PackedInt8GroupsWeight",
    "PackedInt8Weight",
    "PackedWeight",
    "QuantizedRows",
    "apply_penalties",
    "apply_token_bitmask",
    "default_num_threads",
    "embedding",
    "gelu_tanh_and_mul",
    "has_native",
    "int4_linear",
    "int4_linear_silu_and_mul",
    "int8_embedding",
    "int8_groups_linear",
    "int8_groups_linear_silu_and_mul",
    "int8_linear",
    "int8_linear_silu_and_mul",
    "linear",
    "linear_silu_and_mul",
    "load_native",
    "native_status",
    "pack",
    "pack_int4",
    "pack_int8",
    "pack_int8_groups",
    "paged_attention",
    "quantize_int4",
    "quantize_int8",
    "rms_norm",
    "rotary_write_kv",
    "sample_tokens",
    "silu_and_mul",
    "top_logprobs",
    "varlen_attention",
]
