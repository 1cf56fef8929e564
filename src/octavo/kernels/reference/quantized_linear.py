"""Linear layers over quantised weights: what the numbers in memory mean, in plain torch.

Three formats. ``int8`` has one scale an output channel, and activations are rounded to int8 as well, token by token.
``int4`` and ``int8_groups`` have a scale for every few inputs of a channel, and perhaps a zero point; activations stay
as they are here, while the native kernels round them to int8 with a scale for each token and group of inputs. Their
weight is dequantised anew in every call: the reference is right everywhere, not fast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

INT8_MAX = 127
INT4_ZERO, INT8_ZERO = 8, 128
# The sum of so many products of two int8 values is below 2**24, so float32 holds it exactly.
_EXACT_PRODUCTS = 1024


def int8_linear(x: Tensor, values: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ (values * scales).T + bias`` with ``x`` rounded to int8: an integer product, scaled afterwards.

    Args:
        x: ``[num_tokens, in_features]``.
        values: ``[out_features, in_features]`` int8, from -127 to 127.
        scales: ``[out_features]`` float32.
        bias: ``[out_features]``.

    Returns:
        ``[num_tokens, out_features]`` in the type of ``x``.
    """
    tokens, token_scales = quantize_tokens(x)
    total = torch.zeros(len(x), len(values), dtype=torch.int32, device=x.device)
    for start in range(0, values.shape[1], _EXACT_PRODUCTS):
        part = slice(start, start + _EXACT_PRODUCTS)
        total += (tokens[:, part].float() @ values[:, part].float().T).to(torch.int32)
    result = (total.float() * token_scales.unsqueeze(1) * scales).to(x.dtype)
    return result if bias is None else result + bias


def int4_linear(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    bias: Tensor | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """Return ``x @ weight.T + bias`` for ``weight = (values - zeros) * scales``, or ``values * scales - offsets``.

    Args:
        x: ``[num_tokens, in_features]``.
        values: ``[out_features, in_features / 2]`` uint8: two values a byte, the even input in the low four bits.
        scales: ``[out_features, in_features / group_size]``, one for each group of inputs that lie side by side.
        zeros: uint8 of the same shape; None if all are 8, or if there are offsets.
        bias: ``[out_features]``.
        offsets: of the same shape; taken off each weight of a group.

    Returns:
        ``[num_tokens, out_features]`` in the type of ``x``.
    """
    return F.linear(x, dequantize_int4(values, scales, zeros, offsets).to(x.dtype), bias)


def int8_groups_linear(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    bias: Tensor | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """Return the same as ``int4_linear`` for ``values`` of 8 bits, ``[out_features, in_features]`` uint8.

    Without ``zeros`` and ``offsets`` the zero point is 128.
    """
    return F.linear(x, dequantize_int8_groups(values, scales, zeros, offsets).to(x.dtype), bias)


def quantize_tokens(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round activations to int8, with a scale for each token: its largest magnitude becomes 127. Ties go to even.

    Args:
        x: ``[num_tokens, size]``.

    Returns:
        Values ``[num_tokens, size]`` int8 and scales ``[num_tokens]`` float32. The scale of a token with a NaN or an
        infinity is none either, so that its results are NaN.
    """
    wide = x.float()
    largest = wide.abs().amax(dim=1)
    inverse = torch.where(largest > 0, INT8_MAX / largest, 0.0)
    values = (wide * inverse.unsqueeze(1)).round().nan_to_num(0.0).clamp(-INT8_MAX, INT8_MAX).to(torch.int8)
    return values, torch.where(largest.isfinite(), largest / INT8_MAX, torch.nan)


def dequantize_int8(values: Tensor, scales: Tensor) -> Tensor:
    """Return an ``int8`` weight as float32 ``[out_features, in_features]``."""
    return values.float() * scales.unsqueeze(1)


def dequantize_int4(values: Tensor, scales: Tensor, zeros: Tensor | None, offsets: Tensor | None = None) -> Tensor:
    """Return an ``int4`` weight as float32 ``[out_features, in_features]``."""
    return _dequantize_groups(unpack_int4(values), scales, zeros, offsets, INT4_ZERO)


def dequantize_int8_groups(
    values: Tensor, scales: Tensor, zeros: Tensor | None, offsets: Tensor | None = None
) -> Tensor:
    """Return an ``int8_groups`` weight as float32 ``[out_features, in_features]``."""
    return _dequantize_groups(values, scales, zeros, offsets, INT8_ZERO)


def unpack_int4(packed: Tensor) -> Tensor:
    """Return the values of ``[n, size / 2]`` bytes one by one: ``[n, size]`` uint8 from 0 to 15."""
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)


def pack_int4(values: Tensor) -> Tensor:
    """Return ``[n, size]`` uint8 values from 0 to 15 as ``[n, size / 2]`` bytes."""
    return values[:, 0::2] | (values[:, 1::2] << 4)


def _dequantize_groups(
    values: Tensor, scales: Tensor, zeros: Tensor | None, offsets: Tensor | None, default_zero: int
) -> Tensor:
    groups = values.view(*scales.shape, -1).float()
    if offsets is not None:
        return (groups * scales.unsqueeze(2).float() - offsets.unsqueeze(2).float()).flatten(1)
    centred = groups - (default_zero if zeros is None else zeros.unsqueeze(2).float())
    return (centred * scales.unsqueeze(2).float()).flatten(1)
