"""What decoding reads from memory, and what the memory can deliver: how far an engine is from the physical limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from octavo.engine.builder import choose_device, choose_dtype, choose_kv_cache_dtype, kv_cache_bytes_per_token
from octavo.models.loading import weight_bytes
from octavo.models.quantization.choice import choose_formats

if TYPE_CHECKING:
    from octavo.engine.llm import LLM

_BUFFER_BYTES = 2**30
_COLUMNS = 4096
_REPETITIONS = 7


@dataclass(frozen=True, slots=True)
class DecodeTraffic:
    """A decode step of average length.

    Attributes:
        step_s: how long it takes.
        bytes_read: weights, and keys and values of all sequences.
        limit_bytes_per_s: what the device reads from memory in a second, measured.
    """

    step_s: float
    bytes_read: float
    limit_bytes_per_s: float

    @property
    def bytes_per_s(self) -> float:
        """What the steps read in a second."""
        return self.bytes_read / self.step_s

    @property
    def share_of_limit(self) -> float:
        """Part of the memory's bandwidth that is reached; above 1 if the model stays in the caches."""
        return self.bytes_per_s / self.limit_bytes_per_s


def decode_traffic(llm: LLM, batch_size: int, input_len: int, output_len: int, *, step_s: float) -> DecodeTraffic:
    """Work out what the decode steps of a batch read, and measure what the memory can deliver.

    A step reads all weights once (of an embedding table that is not the output head only some rows, which do not
    count), and the keys and values of each sequence's tokens so far: on average half of its output.

    Args:
        step_s: how long a step takes.
    """
    model = llm.model_config
    device, dtype = device_and_dtype(llm)
    embedding = 0 if model.tie_word_embeddings else model.vocab_size * model.hidden_size
    kv_bytes = kv_cache_bytes_per_token(model, choose_kv_cache_dtype(llm.config.kv_cache_dtype, dtype, model))
    formats = choose_formats(llm.config.quantization, model.quantization)
    num_weight_bytes = weight_bytes(model, dtype=dtype, formats=formats) - embedding * dtype.itemsize
    return DecodeTraffic(
        step_s=step_s,
        bytes_read=num_weight_bytes + batch_size * (input_len + output_len / 2) * kv_bytes,
        limit_bytes_per_s=read_bandwidth(device, dtype),
    )


def device_and_dtype(llm: LLM) -> tuple[torch.device, torch.dtype]:
    """Return where an engine computes, and with which numbers."""
    device = choose_device(llm.config.device)
    return device, choose_dtype(llm.config.dtype, llm.model_config.dtype, device)


def read_bandwidth(device: torch.device, dtype: torch.dtype) -> float:
    """Return the bytes that a device reads from its memory in a second.

    The faster of a sum and of the product of a matrix with a vector counts; the latter is what decoding does.
    """
    num_bytes = _BUFFER_BYTES
    if device.type == "cuda":
        num_bytes = min(num_bytes, torch.cuda.mem_get_info(device)[0] // 2)
    matrix = torch.ones((num_bytes // (_COLUMNS * dtype.itemsize), _COLUMNS), dtype=dtype, device=device)
    vector = torch.ones(_COLUMNS, dtype=dtype, device=device)
    reads: tuple[Callable[[], object], ...] = (matrix.sum, lambda: torch.mv(matrix, vector))
    return matrix.numel() * dtype.itemsize / min(_best_time(read, device) for read in reads)


def _best_time(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of a few runs after one that does not count."""
    times = []
    for _ in range(_REPETITIONS + 1):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])
