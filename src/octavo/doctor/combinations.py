"""Settings that are right one by one and odd together. The server would start with all of them: warnings only."""

from __future__ import annotations

import os
from pathlib import Path

from octavo.config.schema import MODEL_IN_THE_BOX, ServerConfig
from octavo.doctor.findings import Findings

_CHECK = "settings"


def check_combinations(config: ServerConfig, findings: Findings) -> None:
    """Warn of settings that have no effect beside others, or that slow the server down."""
    given = config.model_fields_set
    if config.max_num_batched_tokens is not None and config.max_num_batched_tokens < config.max_num_seqs:
        findings.warning(
            _CHECK,
            f"max_num_batched_tokens={config.max_num_batched_tokens} is less than max_num_seqs={config.max_num_seqs}: "
            "a step has not even one token for each running sequence. Raise --max-num-batched-tokens or lower "
            "--max-num-seqs.",
        )
    if config.max_model_len is not None and config.block_size > config.max_model_len:
        findings.warning(
            _CHECK,
            f"block_size={config.block_size} is more than max_model_len={config.max_model_len}: every sequence holds a "
            f"block that it cannot fill. Use --block-size {_largest_power_of_two(config.max_model_len)} or less.",
        )
    if config.kv_cache_memory_bytes is not None and "gpu_memory_utilization" in given:
        findings.warning(
            _CHECK,
            "gpu_memory_utilization has no effect, since kv_cache_memory_bytes sets the size of the KV cache. Leave "
            "one of them out.",
        )
    if config.cpu_threads is not None and config.cpu_threads > (os.cpu_count() or 1):
        findings.warning(
            _CHECK,
            f"cpu_threads={config.cpu_threads} is more than the {os.cpu_count()} cores of this machine; the threads "
            "will wait for each other. Leave --cpu-threads out for one a core.",
        )
    if config.revision is not None and _is_on_this_machine(config.model):
        findings.warning(
            _CHECK, f"revision={config.revision} has no effect: {config.model} is not from the hub. Leave it out."
        )
    if len(set(config.served_model_name)) < len(config.served_model_name):
        findings.warning(_CHECK, f"served_model_name names one model twice: {', '.join(config.served_model_name)}.")


def _is_on_this_machine(model: str) -> bool:
    return model == MODEL_IN_THE_BOX or Path(model).expanduser().is_dir()


def _largest_power_of_two(limit: int) -> int:
    return 1 << (limit.bit_length() - 1)
