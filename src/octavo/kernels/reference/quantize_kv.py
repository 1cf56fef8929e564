"""Rounding of keys and values to int8 with a factor for each token and head."""

from __future__ import annotations

import torch
from torch import Tensor


def quantize_kv(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round each head of each token to whole numbers from -127 to 127 of its own scale: the largest magnitude is 127.

    A head that is zero has the scale 0. One with an infinity or NaN in it has the scale NaN, so that it reads as NaN.

    Args:
        x: ``[num_tokens, num_kv_heads, head_dim]``.

    Returns:
        int8 of the shape of ``x``, and float32 scales ``[num_tokens, num_kv_heads]``.
    """
    wide = x.to(torch.float32)
    largest = wide.abs().amax(-1, keepdim=True)
    scales = torch.where(largest.isfinite(), largest / 127, torch.nan)
    whole = torch.where(scales > 0, wide / scales, 0).round().clamp(-127, 127)
    return whole.to(torch.int8), scales.squeeze(-1)
