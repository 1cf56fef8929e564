"""Tokens, penalties and log-probabilities without a sort of the vocabulary and without copies of the logits."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.cpu.checks import describe
from octavo.kernels.cpu.loading import load_native
from octavo.kernels.sampling_rows import PenaltyRows, SamplingRows


def sample_tokens(logits: Tensor, rows: SamplingRows) -> Tensor:
    """As :func:`octavo.kernels.reference.sample_tokens`, for float32."""
    logits = _with_dense_rows(logits)
    num_rows, vocab_size = logits.shape
    token_ids = torch.empty(num_rows, dtype=torch.int64)
    load_native().sample_tokens(
        logits.data_ptr(),
        logits.stride(0),
        num_rows,
        vocab_size,
        _address(rows.temperature, torch.float32, num_rows),
        _address(rows.top_k, torch.int64, num_rows),
        _address(rows.top_p, torch.float32, num_rows),
        _address(rows.min_p, torch.float32, num_rows),
        _address(rows.seeds, torch.int64, num_rows),
        _address(rows.positions, torch.int64, num_rows),
        token_ids.data_ptr(),
    )
    return token_ids


def top_logprobs(logits: Tensor, token_ids: Tensor, num_top: int) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`octavo.kernels.reference.top_logprobs`, for float32; of equal logits the lower token ids come first."""
    logits = _with_dense_rows(logits)
    num_rows, vocab_size = logits.shape
    if not 0 <= num_top <= vocab_size:
        raise ValueError(f"num_top={num_top} of {vocab_size} tokens")
    logprobs = torch.empty(num_rows, 1 + num_top)
    ids = torch.empty(num_rows, 1 + num_top, dtype=torch.int64)
    ranks = torch.empty(num_rows, dtype=torch.int64)
    load_native().top_logprobs(
        logits.data_ptr(),
        logits.stride(0),
        num_rows,
        vocab_size,
        _address(token_ids, torch.int64, num_rows),
        num_top,
        logprobs.data_ptr(),
        ids.data_ptr(),
        ranks.data_ptr(),
    )
    return logprobs, ids, ranks


def apply_penalties(logits: Tensor, penalties: PenaltyRows) -> None:
    """As :func:`octavo.kernels.reference.apply_penalties`, for float32."""
    _check_writable(logits)
    token_ids = penalties.token_ids
    if token_ids.dtype is not torch.int32 or token_ids.stride(1) != 1:
        raise TypeError(f"token ids must be torch.int32 with dense rows, not {describe(token_ids)}")
    num_rows = token_ids.shape[0]
    load_native().apply_penalties(
        logits.data_ptr(),
        logits.stride(0),
        logits.shape[1],
        num_rows,
        _address(penalties.rows, torch.int64, num_rows),
        token_ids.data_ptr(),
        token_ids.stride(0),
        _address(penalties.prompt_lens, torch.int64, num_rows),
        _address(penalties.lens, torch.int64, num_rows),
        _address(penalties.presence, torch.float32, num_rows),
        _address(penalties.frequency, torch.float32, num_rows),
        _address(penalties.repetition, torch.float32, num_rows),
    )


def apply_token_bitmask(logits: Tensor, rows: Tensor, bitmask: Tensor) -> None:
    """As :func:`octavo.kernels.reference.apply_token_bitmask`, for float32."""
    _check_writable(logits)
    num_rows, vocab_size = rows.shape[0], logits.shape[1]
    if bitmask.dtype is not torch.int32 or bitmask.shape != (num_rows, -(-vocab_size // 32)) or bitmask.stride(1) != 1:
        raise TypeError(f"torch.int32 [{num_rows}, {-(-vocab_size // 32)}] is needed, not {describe(bitmask)}")
    load_native().apply_token_bitmask(
        logits.data_ptr(),
        logits.stride(0),
        vocab_size,
        num_rows,
        _address(rows, torch.int64, num_rows),
        bitmask.data_ptr(),
        bitmask.stride(0),
    )


def _check_writable(logits: Tensor) -> None:
    if logits.dtype is not torch.float32 or logits.dim() != 2 or logits.stride(1) != 1:
        raise TypeError(f"torch.float32 [num_rows, vocab_size] with dense rows is needed, not {describe(logits)}")


def _with_dense_rows(logits: Tensor) -> Tensor:
    if logits.dtype is not torch.float32 or logits.dim() != 2:
        raise TypeError(f"torch.float32 [num_rows, vocab_size] is needed, not {describe(logits)}")
    return logits if logits.stride(1) == 1 else logits.contiguous()


def _address(values: Tensor, dtype: torch.dtype, num_rows: int) -> int:
    if values.dtype is not dtype or values.shape != (num_rows,) or not values.is_contiguous() or not values.is_cpu:
        raise TypeError(f"{dtype} [{num_rows}], contiguous and on the CPU, is needed, not {describe(values)}")
    return values.data_ptr()
