"""The operations that a model is made of. ``from octavo import kernels; kernels.paged_attention(…)``.

Which implementation runs is the dispatch table's decision; all of them have the signature of the plain torch version
in ``kernels.reference``.
"""

from __future__ import annotations

from octavo.kernels import reference
from octavo.kernels.dispatch import Implementation, KernelRow, Operation, rows_of

__all__ = [
    "apply_rotary",
    "describe",
    "int4_linear",
    "int8_groups_linear",
    "int8_linear",
    "paged_attention",
    "rms_norm",
    "silu_and_mul",
    "write_kv",
]

rms_norm = Operation("rms_norm", [Implementation("reference", reference.rms_norm)])
apply_rotary = Operation("apply_rotary", [Implementation("reference", reference.apply_rotary)])
silu_and_mul = Operation("silu_and_mul", [Implementation("reference", reference.silu_and_mul)])
write_kv = Operation("write_kv", [Implementation("reference", reference.write_kv)])
paged_attention = Operation("paged_attention", [Implementation("reference", reference.paged_attention)])
int8_linear = Operation("int8_linear", [Implementation("reference", reference.int8_linear)])
int4_linear = Operation("int4_linear", [Implementation("reference", reference.int4_linear)])
int8_groups_linear = Operation("int8_groups_linear", [Implementation("reference", reference.int8_groups_linear)])


def describe() -> list[KernelRow]:
    """Return the dispatch table: which implementations each operation has, in the order in which they are tried."""
    return [
        *rows_of(rms_norm),
        *rows_of(apply_rotary),
        *rows_of(silu_and_mul),
        *rows_of(write_kv),
        *rows_of(paged_attention),
        *rows_of(int8_linear),
        *rows_of(int4_linear),
        *rows_of(int8_groups_linear),
    ]
