"""Memory: whether the weights and the KV cache of at least one full sequence fit, by the engine's own arithmetic."""

from __future__ import annotations

import torch

from octavo.config.schema import ServerConfig
from octavo.doctor.findings import Findings
from octavo.engine import memory
from octavo.engine.batch_invariance import is_batch_invariant
from octavo.engine.builder import choose_device, choose_dtype, choose_kv_cache_dtype, kv_cache_bytes_per_token
from octavo.errors import ConfigError
from octavo.models.config import ModelConfig
from octavo.models.loading import weight_bytes
from octavo.models.pooling_files import ModelKind
from octavo.models.pooling_loading import pooling_weight_bytes
from octavo.models.quantization.choice import choose_formats


def check_memory(config: ServerConfig, kind: ModelKind, findings: Findings) -> None:
    """Check the device, and what is free on it against what the engine will need.

    The activations of a GPU are measured only when the engine starts. Here they count as nothing, so what does not fit
    here fits nowhere.
    """
    try:
        device = choose_device(config.device)
    except ConfigError as error:
        findings.error("device", str(error))
        return
    with findings.catching("batch_invariant"):
        is_batch_invariant(config, device)
    model_config = kind.config
    dtype = choose_dtype(config.dtype, model_config.dtype, device)
    try:
        formats = choose_formats(config.quantization, model_config.quantization)
    except ConfigError as error:
        findings.error("quantization", str(error))
        return
    if kind.pooling is not None or not isinstance(model_config, ModelConfig):
        with findings.catching("memory"):
            num_bytes = pooling_weight_bytes(model_config, dtype=dtype, formats=formats)
            memory.check_weights_fit(num_bytes, _free_bytes(device), device.type)
        return
    num_weight_bytes = weight_bytes(model_config, dtype=dtype, formats=formats)
    longest = model_config.default_max_model_len
    with findings.catching("memory"):
        kv_dtype = choose_kv_cache_dtype(config.kv_cache_dtype, dtype, model_config)
        free_bytes = _free_bytes(device)
        memory.check_weights_fit(num_weight_bytes, free_bytes, device.type)
        memory.num_kv_blocks(
            _kv_cache_budget(config, device, num_weight_bytes),
            config=config,
            max_model_len=min(config.max_model_len or longest, longest),
            bytes_per_token=kv_cache_bytes_per_token(model_config, kv_dtype),
        )


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return memory.available_host_memory()


def _kv_cache_budget(config: ServerConfig, device: torch.device, num_weight_bytes: int) -> memory.KVCacheBudget:
    """Return what the weights will leave to the KV cache."""
    if device.type == "cuda":
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        used_bytes = total_bytes - free_bytes + num_weight_bytes
        return memory.cuda_kv_cache_budget(
            config, total_bytes=total_bytes, used_bytes=used_bytes, peak_activation_bytes=0
        )
    return memory.cpu_kv_cache_budget(config, memory.available_host_memory() - num_weight_bytes)
