"""The gate of GeGLU in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.cpu.loading import load_native


def gelu_tanh_and_mul(x: Tensor) -> Tensor:
    """As :func:`octavo.kernels.reference.gelu_tanh_and_mul`, for float32."""
    num_tokens, width = x.shape
    if x.dtype is not torch.float32 or width % 2:
        raise TypeError(f"torch.float32 with as many gates as factors is needed, not {x.dtype} {list(x.shape)}")
    if x.stride(1) != 1:
        x = x.contiguous()
    output = torch.empty(num_tokens, width // 2)
    load_native().gelu_tanh_and_mul(x.data_ptr(), x.stride(0), num_tokens, width // 2, output.data_ptr())
    return output
