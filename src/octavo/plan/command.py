"""The ``octavo serve`` command for a deployment, and what this version cannot do of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from pydantic import ValidationError

from octavo.config import EngineConfig
from octavo.plan.deployment import Deployment
from octavo.plan.fit import Fit

# Methods of quantised checkpoints that the engine reads.
_PACKED_CHECKPOINTS = ("gptq", "awq")


def serve_command(deployment: Deployment, found: Fit) -> str:
    """Return a command that ``octavo serve`` accepts, with all that is not its default and that it can do."""
    arguments = ["octavo", "serve", deployment.model]
    for name, value in _settings(deployment, found).items():
        if value != EngineConfig.model_fields[name].default and _refusal(name, value) is None:
            arguments += ["--" + name.replace("_", "-"), str(value)]
    return shlex.join(arguments)


def not_supported(deployment: Deployment, found: Fit) -> tuple[str, ...]:
    """Return what this version's ``octavo serve`` cannot do of a deployment, a sentence each."""
    return tuple(_reasons(deployment, found))


def _settings(deployment: Deployment, found: Fit) -> dict[str, object]:
    """Return the settings of the engine that the plan assumes."""
    is_automatic = deployment.dtype == deployment.shape.dtype and not deployment.rounds_activations
    is_usual_step = deployment.max_num_batched_tokens == deployment.hardware.default_step_tokens
    is_longest = found.max_model_len == deployment.shape.max_model_len
    return {
        "dtype": "auto" if is_automatic else deployment.dtype,
        "quantization": deployment.wanted_quantization,
        "device": "cpu" if deployment.hardware.is_cpu else "auto",
        "max_model_len": None if is_longest else found.max_model_len,
        "max_num_seqs": min(deployment.max_num_seqs, max(found.max_batch(deployment.asked_len), 1)),
        "gpu_memory_utilization": deployment.gpu_memory_utilization,
        "kv_cache_memory_bytes": deployment.kv_cache_memory_bytes,
        "max_num_batched_tokens": None if is_usual_step else deployment.max_num_batched_tokens,
        "block_size": deployment.block_size,
        "kv_cache_dtype": "auto" if deployment.kv_cache_dtype == "fp8" else deployment.kv_cache_dtype,
        "tensor_parallel_size": deployment.tensor_parallel_size,
    }


def _reasons(deployment: Deployment, found: Fit) -> Iterator[str]:
    if not deployment.is_served:
        yield f"This version of octavo serve does not run {deployment.shape.model_type} models."
    for name, value in _settings(deployment, found).items():
        refusal = _refusal(name, value)
        if refusal is not None:
            yield f"--{name.replace('_', '-')} {value}: {refusal}"
    packed = deployment.shape.quantization_config and deployment.shape.quantization_config.get("quant_method")
    if deployment.is_served and packed and packed not in _PACKED_CHECKPOINTS and deployment.wanted_quantization is None:
        yield f"This version loads no {packed} checkpoints; serve the original one."
    if deployment.kv_cache_dtype == "fp8":
        yield "--kv-cache-dtype fp8: this version keeps the KV cache in 32 or 16 bits or in int8."
    if deployment.num_replicas > 1:
        yield (
            f"The command starts one of {deployment.num_replicas} replicas. Start it once for each, with "
            "CUDA_VISIBLE_DEVICES and --port of its own."
        )


def _refusal(name: str, value: object) -> str | None:
    """Return why the engine refuses a setting; None if it takes it."""
    try:
        EngineConfig.model_validate({name: value})
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    return None
