"""What the machine can do at best, measured: reading memory, and multiplying matrices."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from octavo.kernels import cpu

_REPETITIONS = 7
_PROBE_STEPS = 20_000_000


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """Limits of one device for one type of numbers.

    Attributes:
        read_gb_per_s: 10^9 bytes read from memory in a second.
        matmul_gflops: 10^9 operations in a second, a multiplication and an addition counting as two.
    """

    read_gb_per_s: float
    matmul_gflops: float


def measure_limits(
    device: torch.device, dtype: torch.dtype, *, buffer_bytes: int = 2**30, matrix_size: int = 2048
) -> MachineLimits:
    """Measure both limits.

    Reading is measured as a sum and as a product of a matrix with a vector, which is what decoding one sequence does;
    the faster of the two counts.

    Args:
        buffer_bytes: size of what is read; must be far larger than the caches.
        matrix_size: rows and columns of the matrices that are multiplied.
    """
    return MachineLimits(
        read_gb_per_s=_measure_reading(device, dtype, buffer_bytes),
        matmul_gflops=_measure_matmul(device, dtype, matrix_size),
    )


def measure_int8_gops(num_steps: int = _PROBE_STEPS) -> float:
    """Return 10^9 operations a second of int8 products on the native kernels' threads, all operands in registers."""
    return _measure_products(cpu.load_native().multiply_int8, num_steps)


def measure_bf16_gflops(num_steps: int = _PROBE_STEPS) -> float:
    """Return the same of bfloat16 products with sums in float32."""
    return _measure_products(cpu.load_native().multiply_bf16, num_steps)


def _measure_products(multiply: Callable[[int], int], num_steps: int) -> float:
    started = time.perf_counter()
    num_operations = multiply(num_steps)
    return num_operations / (time.perf_counter() - started) / 1e9


def _measure_reading(device: torch.device, dtype: torch.dtype, buffer_bytes: int) -> float:
    columns = 4096
    matrix = torch.ones((buffer_bytes // (columns * dtype.itemsize), columns), dtype=dtype, device=device)
    vector = torch.ones(columns, dtype=dtype, device=device)
    reads: tuple[Callable[[], object], ...] = (matrix.sum, lambda: torch.mv(matrix, vector))
    return matrix.numel() * dtype.itemsize / min(_best_time(read, device) for read in reads) / 1e9


def _measure_matmul(device: torch.device, dtype: torch.dtype, size: int) -> float:
    square = torch.ones((size, size), dtype=dtype, device=device)
    return 2 * size**3 / _best_time(lambda: torch.mm(square, square), device) / 1e9


def _best_time(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of a few runs after one that does not count."""
    times = []
    for _ in range(_REPETITIONS + 1):
        _synchronize(device)
        started = time.perf_counter()
        run()
        _synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
