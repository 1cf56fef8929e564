"""How much memory there is, and how many KV blocks it gives. Says the arithmetic when it is not enough."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from octavo.config import EngineConfig
from octavo.config.sizes import format_bytes
from octavo.errors import ConfigError
from octavo.plan.memory import blocks_of_sequence, blocks_that_fit, default_cpu_kv_cache_bytes


@dataclass(frozen=True, slots=True)
class KVCacheBudget:
    """Memory that the KV cache may take.

    Attributes:
        num_bytes: the budget.
        source: where it comes from, for messages.
        is_explicit: whether the user set it.
    """

    num_bytes: int
    source: str
    is_explicit: bool


def num_kv_blocks(budget: KVCacheBudget, *, config: EngineConfig, max_model_len: int, bytes_per_token: int) -> int:
    """Return how many blocks to allocate.

    A budget that the user did not set is not used beyond what ``max_num_seqs`` sequences of ``max_model_len`` could
    hold.

    Raises:
        ConfigError: one sequence of ``max_model_len`` does not fit.
    """
    fitting = blocks_that_fit(budget.num_bytes, config.block_size, bytes_per_token) - 1  # one block is padding
    blocks_per_sequence = blocks_of_sequence(max_model_len, config.block_size)
    if fitting < blocks_per_sequence:
        longest = max(fitting, 0) * config.block_size
        needed = (blocks_per_sequence + 1) * bytes_per_token * config.block_size
        raise ConfigError(
            f"one sequence of max_model_len={max_model_len} needs {format_bytes(needed)} of KV cache "
            f"({blocks_per_sequence} blocks of {config.block_size} tokens and one for padding, "
            f"{bytes_per_token:,} bytes a token), but {budget.source} is {format_bytes(budget.num_bytes)}. "
            + (f"Set --max-model-len {longest} or less, or give" if longest else "Give")
            + f" --kv-cache-memory-bytes {needed} or more."
        )
    if budget.is_explicit:
        return fitting
    return min(fitting, config.max_num_seqs * blocks_per_sequence)


def check_kv_cache_setting(config: EngineConfig, *, max_model_len: int, bytes_per_token: int) -> None:
    """Refuse a size that the user set before anything is loaded; other budgets are known only afterwards.

    Raises:
        ConfigError: one sequence of ``max_model_len`` does not fit.
    """
    if (budget := _budget_of_user(config)) is not None:
        num_kv_blocks(budget, config=config, max_model_len=max_model_len, bytes_per_token=bytes_per_token)


def _budget_of_user(config: EngineConfig) -> KVCacheBudget | None:
    if config.kv_cache_memory_bytes is None:
        return None
    return KVCacheBudget(config.kv_cache_memory_bytes, "--kv-cache-memory-bytes", is_explicit=True)


def cpu_kv_cache_budget(config: EngineConfig, available_bytes: int) -> KVCacheBudget:
    """Return the budget on a CPU: what the user set, or a quarter of the memory that is free, at most 4 GiB."""
    if (budget := _budget_of_user(config)) is not None:
        return budget
    num_bytes = default_cpu_kv_cache_bytes(available_bytes)
    source = f"the default on a CPU (a quarter of the {format_bytes(available_bytes)} that are free, at most 4 GiB)"
    return KVCacheBudget(num_bytes, source, is_explicit=False)


def cuda_kv_cache_budget(
    config: EngineConfig, *, total_bytes: int, used_bytes: int, peak_activation_bytes: int
) -> KVCacheBudget:
    """Return the budget on a GPU: what ``gpu_memory_utilization`` leaves after a measured profile run.

    Args:
        total_bytes: memory of the device.
        used_bytes: memory in use on the device after the run, by weights, context and other processes.
        peak_activation_bytes: most that activations took on top during the run.

    Raises:
        ConfigError: nothing is left.
    """
    if (budget := _budget_of_user(config)) is not None:
        return budget
    allowed = int(total_bytes * config.gpu_memory_utilization)
    left = allowed - used_bytes - peak_activation_bytes
    arithmetic = (
        f"{format_bytes(total_bytes)} x --gpu-memory-utilization {config.gpu_memory_utilization} - "
        f"{format_bytes(used_bytes)} in use - {format_bytes(peak_activation_bytes)} for activations"
    )
    if left <= 0:
        raise ConfigError(
            f"no GPU memory is left for the KV cache: {arithmetic} = -{format_bytes(-left)}. Raise "
            "--gpu-memory-utilization, lower --max-num-batched-tokens, or use a smaller model or dtype."
        )
    return KVCacheBudget(left, f"what is left on the GPU ({arithmetic})", is_explicit=False)


def check_weights_fit(weight_bytes: int, available_bytes: int, where: str) -> None:
    """Raise ConfigError if the weights are larger than the memory that is free."""
    if weight_bytes > available_bytes:
        raise ConfigError(
            f"the model's weights take {format_bytes(weight_bytes)}, but only {format_bytes(available_bytes)} of "
            f"{where} memory are free. Use a smaller model, --dtype bfloat16, --quantization int8 or int4, or a "
            "machine with more memory."
        )


def available_host_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that this process could still allocate: free memory, or less if a control group says so."""
    available = _meminfo_available(proc / "meminfo")
    limit = _read_int(cgroup / "memory.max")
    current = _read_int(cgroup / "memory.current")
    if limit is not None and current is not None:
        cached_files = _read_stat(cgroup / "memory.stat", "inactive_file")  # given up before anything runs short
        available = min(available, max(limit - current + cached_files, 0))
    return available


def _meminfo_available(path: Path) -> int:
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read_stat(path: Path, name: str) -> int:
    """Read one number from a control group's statistics; 0 if it is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(value) for key, _, value in (line.partition(" ") for line in lines) if key == name), 0)


def _read_int(path: Path) -> int | None:
    """Read a number from a control-group file; None if there is no such file or limit ("max")."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
