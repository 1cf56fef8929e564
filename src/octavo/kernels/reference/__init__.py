"""Every kernel in plain torch: the meaning that faster versions are tested against."""

from octavo.kernels.reference.apply_rotary import apply_rotary
from octavo.kernels.reference.gelu_tanh_and_mul import gelu_tanh_and_mul
from octavo.kernels.reference.paged_attention import paged_attention
from octavo.kernels.reference.quantize_kv import quantize_kv
from octavo.kernels.reference.quantized_linear import int4_linear, int8_groups_linear, int8_linear
from octavo.kernels.reference.rms_norm import rms_norm
from octavo.kernels.reference.rotary_write_kv import rotary_write_kv
from octavo.kernels.reference.silu_and_mul import silu_and_mul
from octavo.kernels.reference.write_kv import write_kv

__all__ = [
    "apply_rotary",
    "gelu_tanh_and_mul",
    "int4_linear",
    "int8_groups_linear",
    "int8_linear",
    "paged_attention",
    "quantize_kv",
    "rms_norm",
    "rotary_write_kv",
    "silu_and_mul",
    "write_kv",
]
