"""Every kernel in plain torch: the meaning that faster versions are tested against."""

from octavo.kernels.reference.apply_penalties import apply_penalties
from octavo.kernels.reference.apply_rotary import apply_rotary
from octavo.kernels.reference.apply_token_bitmask import apply_token_bitmask
from octavo.kernels.reference.gelu_tanh_and_mul import gelu_tanh_and_mul
from octavo.kernels.reference.paged_attention import paged_attention
from octavo.kernels.reference.quantize_kv import quantize_kv
from octavo.kernels.reference.quantized_linear import int4_linear, int8_groups_linear, int8_linear
from octavo.kernels.reference.rms_norm import rms_norm
from octavo.kernels.reference.rotary_write_kv import rotary_write_kv
from octavo.kernels.reference.sample_tokens import sample_tokens
from octavo.kernels.reference.silu_and_mul import silu_and_mul
from octavo.kernels.reference.top_logprobs import top_logprobs
from octavo.kernels.reference.varlen_attention import varlen_attention
from octavo.kernels.reference.write_kv import write_kv

__all__ = [
    "apply_penalties",
    "apply_rotary",
    "apply_token_bitmask",
    "gelu_tanh_and_mul",
    "int4_linear",
    "int8_groups_linear",
    "int8_linear",
    "paged_attention",
    "quantize_kv",
    "rms_norm",
    "rotary_write_kv",
    "sample_tokens",
    "silu_and_mul",
    "top_logprobs",
    "varlen_attention",
    "write_kv",
]
