"""Linear layers over packed weights, and what is computed before their result leaves the registers.

Weights are float32, bfloat16 or float16; activations, sums, biases and results are float32. Weights are widened, never
rounded, so a bfloat16 weight gives what a float32 layer gives with the same numbers. A row of the result does
not depend on the other rows, nor on the number of threads. NaN and infinity go through as in torch.

A bfloat16 weight may be packed for rounded activations instead: then ``x`` is rounded to bfloat16, nearest even, and
processors with AVX-512 BF16 multiply twice as fast. Their products take subnormal numbers as zero.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import check_float32, check_rows, describe
from octavo.kernels.cpu.linear_output import gather_rows, prepare_output
from octavo.kernels.cpu.loading import load_native

if TYPE_CHECKING:
    from octavo.kernels.cpu import _native

WEIGHT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class PackedWeight:
    """A weight ``[out_features, in_features]`` in the order in which the kernels read it; at first all zeros.

    It owns its memory, and is the only copy: an embedding that is tied to the head is looked up in it too.

    Args:
        gated: rows are those of a gate and then as many of ``up``, for :func:`linear_silu_and_mul`.
        rounds_activations: what it is multiplied with is rounded to bfloat16, as the weight is.

    Raises:
        TypeError: weights of this dtype cannot be packed, or not for rounded activations.
        ValueError: a size is negative, or a gated weight has an odd number of rows.
    """

    __slots__ = ("dtype", "gated", "handle", "in_features", "out_features", "rounds_activations")

    def __init__(
        self,
        out_features: int,
        in_features: int,
        dtype: torch.dtype,
        *,
        gated: bool = False,
        rounds_activations: bool = False,
    ) -> None:
        if dtype not in WEIGHT_DTYPES:
            raise TypeError(f"weights of {dtype} cannot be packed; float32, bfloat16 and float16 can")
        if rounds_activations and dtype != torch.bfloat16:
            raise TypeError(f"activations can be rounded for weights of bfloat16, not for {dtype}")
        self.out_features = out_features
        self.in_features = in_features
        self.dtype = dtype
        self.gated = gated
        self.rounds_activations = rounds_activations
        layout = "bfloat16_pairs" if rounds_activations else str(dtype).removeprefix("torch.")
        self.handle: _native.PackedMatrix = load_native().pack(out_features, in_features, layout, gated)

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, including what rounds it up to whole panels."""
        return self.handle.num_bytes

    def fill(self, first_row: int, rows: Tensor) -> None:
        """Copy ``rows`` ``[n, in_features]``, of this weight's dtype, to row ``first_row`` and those after it."""
        num_rows = rows.shape[0]
        if rows.dtype != self.dtype or rows.shape != (num_rows, self.in_features) or not rows.is_cpu:
            raise TypeError(f"rows of {self.dtype} [n, {self.in_features}] on the CPU are needed, not {describe(rows)}")
        check_rows(first_row, num_rows, self.out_features)
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        self.handle.fill(rows.data_ptr(), first_row, num_rows, rows.stride(0))

    def unpack(self) -> Tensor:
        """Return the weight as a tensor ``[out_features, in_features]``."""
        return embedding(torch.arange(self.out_features), self).to(self.dtype)


def pack(weight: Tensor, *, gated: bool = False, rounds_activations: bool = False) -> PackedWeight:
    """Return a packed copy of ``weight`` ``[out_features, in_features]``."""
    out_features, in_features = weight.shape
    packed = PackedWeight(out_features, in_features, weight.dtype, gated=gated, rounds_activations=rounds_activations)
    packed.fill(0, weight)
    return packed


def linear(
    x: Tensor,
    weight: PackedWeight,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return ``x @ weight.T + bias + residual``.

    Args:
        x: ``[num_tokens, in_features]``.
        weight: not gated.
        bias: ``[out_features]``.
        residual: ``[num_tokens, out_features]``; may be ``out``, which is then added to.
        out: where the result is written, ``[num_tokens, out_features]``; otherwise a new tensor.
    """
    if weight.gated:
        raise ValueError("this weight is gated; linear_silu_and_mul takes it")
    return _run(x, weight, weight.out_features, bias, residual, out)


def linear_silu_and_mul(
    x: Tensor,
    weight: PackedWeight,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    added: Tensor | None = None,
) -> Tensor:
    """Return ``silu(gate) * up`` for ``[gate, up] = x @ weight.T + bias + added``, without writing both to memory.

    Args:
        x: ``[num_tokens, in_features]``.
        weight: gated, with ``2 * size`` rows.
        bias: ``[2 * size]``.
        out: where the result is written, ``[num_tokens, size]``; otherwise a new tensor.
        added: ``[num_tokens, 2 * size]``.
    """
    if not weight.gated:
        raise ValueError("this weight is not gated; linear takes it")
    return _run(x, weight, weight.out_features // 2, bias, added, out)


def _run(
    x: Tensor, weight: PackedWeight, width: int, bias: Tensor | None, residual: Tensor | None, out: Tensor | None
) -> Tensor:
    num_tokens = x.shape[0]
    check_float32(x, "x", (num_tokens, weight.in_features))
    out, output_arguments = prepare_output((num_tokens, width), weight.out_features, bias, residual, out)
    load_native().linear(
        weight.handle,
        x.data_ptr(),
        num_tokens,
        x.stride(0),
        *output_arguments,
    )
    return out


def embedding(token_ids: Tensor, weight: PackedWeight) -> Tensor:
    """Return rows of a packed table.

    Args:
        token_ids: ``[num_tokens]`` int64.

    Returns:
        ``[num_tokens, in_features]`` float32.

    Raises:
        IndexError: an id is not a row of the table.
    """
    return gather_rows(token_ids, weight.in_features, partial(load_native().embedding, weight.handle))
