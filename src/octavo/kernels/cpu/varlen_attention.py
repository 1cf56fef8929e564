"""Attention of encoders in one call for all sequences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import check_float32
from octavo.kernels.cpu.loading import load_native


def varlen_attention(qkv: Tensor, groups: Sequence[tuple[int, int]], head_dim: int) -> Tensor:
    """As :func:`octavo.kernels.reference.varlen_attention`, for float32."""
    num_tokens, width = qkv.shape
    lengths = [length for count, length in groups for _ in range(count)]
    if sum(lengths) != num_tokens or width % (3 * head_dim) or min(lengths, default=1) < 1:
        raise ValueError(f"groups {groups} and heads of {head_dim} do not fit to {list(qkv.shape)}")
    check_float32(qkv, "qkv", (num_tokens, width))
    starts = torch.tensor([0, *accumulate(lengths)])
    output = torch.empty(num_tokens, width // 3)
    load_native().varlen_attention(
        qkv.data_ptr(),
        qkv.stride(0),
        starts.data_ptr(),
        len(lengths),
        width // (3 * head_dim),
        head_dim,
        head_dim**-0.5,
        output.data_ptr(),
    )
    return output
