"""The operations that a model is made of. ``from octavo import kernels; kernels.paged_attention(…)``.

Which implementation runs is the dispatch table's decision; all of them have the signature of the plain torch version
in ``kernels.reference``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from octavo.kernels import cpu, reference
from octavo.kernels.dispatch import Implementation, KernelRow, Operation, rows_of

__all__ = [
    "apply_penalties",
    "apply_token_bitmask",
    "describe",
    "forget_choices",
    "gelu_tanh_and_mul",
    "int4_linear",
    "int8_groups_linear",
    "int8_linear",
    "paged_attention",
    "rms_norm",
    "rotary_write_kv",
    "sample_tokens",
    "silu_and_mul",
    "top_logprobs",
    "varlen_attention",
]

P = ParamSpec("P")
R = TypeVar("R")


def _operation(
    name: str,
    reference_function: Callable[Concatenate[Tensor, P], R],
    native_function: Callable[Concatenate[Tensor, P], R],
) -> Operation[P, R]:
    """Make an operation that runs the native kernel for float32 on a CPU, if there is one, and torch otherwise."""
    native = Implementation(
        "native",
        native_function,
        device_types=frozenset({"cpu"}),
        dtypes=frozenset({torch.float32}),
        is_available=cpu.has_native,
    )
    return Operation(name, [native, Implementation("reference", reference_function)])


rms_norm = _operation("rms_norm", reference.rms_norm, cpu.rms_norm)
silu_and_mul = _operation("silu_and_mul", reference.silu_and_mul, cpu.silu_and_mul)
gelu_tanh_and_mul = _operation("gelu_tanh_and_mul", reference.gelu_tanh_and_mul, cpu.gelu_tanh_and_mul)
rotary_write_kv = _operation("rotary_write_kv", reference.rotary_write_kv, cpu.rotary_write_kv)
sample_tokens = _operation("sample_tokens", reference.sample_tokens, cpu.sample_tokens)
apply_penalties = _operation("apply_penalties", reference.apply_penalties, cpu.apply_penalties)
apply_token_bitmask = _operation("apply_token_bitmask", reference.apply_token_bitmask, cpu.apply_token_bitmask)
top_logprobs = _operation("top_logprobs", reference.top_logprobs, cpu.top_logprobs)
paged_attention = _operation("paged_attention", reference.paged_attention, cpu.paged_attention)
varlen_attention = _operation("varlen_attention", reference.varlen_attention, cpu.varlen_attention)
int8_linear = Operation("int8_linear", [Implementation("reference", reference.int8_linear)])
int4_linear = Operation("int4_linear", [Implementation("reference", reference.int4_linear)])
int8_groups_linear = Operation("int8_groups_linear", [Implementation("reference", reference.int8_groups_linear)])


_OPERATIONS: Sequence[Operation[..., Any]] = (
    rms_norm,
    silu_and_mul,
    gelu_tanh_and_mul,
    rotary_write_kv,
    paged_attention,
    varlen_attention,
    sample_tokens,
    apply_penalties,
    apply_token_bitmask,
    top_logprobs,
    int8_linear,
    int4_linear,
    int8_groups_linear,
)


def describe() -> list[KernelRow]:
    """Return the dispatch table: which implementations each operation has, in the order in which they are tried."""
    return [row for operation in _OPERATIONS for row in rows_of(operation)]


def forget_choices() -> None:
    """Choose implementations anew: what is available has changed."""
    for operation in _OPERATIONS:
        operation.forget_choices()
