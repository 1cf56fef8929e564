"""From what a user names (a model, a GPU, types) to a deployment."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import ConfigError, ModelError
from octavo.plan.deployment import KV_CACHE_BYTES, Deployment
from octavo.plan.families import read_model_shape
from octavo.plan.hardware import Hardware
from octavo.plan.model_shape import ModelShape
from octavo.plan.weights import DTYPE_BYTES, Quantization, checkpoint_quantization, quantization_named

_KV_CACHE_DTYPES = ("auto", *KV_CACHE_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What was asked for; None is what the model and the hardware suggest."""

    gpus: int | None = None
    tensor_parallel_size: int | None = None
    dtype: str = "auto"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int | None = None
    concurrency: int | None = None
    input_len: int | None = None
    output_len: int | None = None
    gpu_memory_utilization: float = 0.9
    max_num_batched_tokens: int | None = None
    block_size: int = 16
    kv_cache_memory_bytes: int | None = None


def read_shape(path: Path) -> ModelShape:
    """Read a ``config.json``.

    Raises:
        ModelError: it is missing or broken, or its family is not known.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} must hold a JSON object, not a {type(config).__name__}.")
    return read_model_shape(config, str(path))


def deployment_of(
    model: str,
    shape: ModelShape,
    hardware: Hardware,
    request: PlanRequest,
    *,
    served_architectures: Collection[str],
) -> Deployment:
    """Settle what was left open and check the rest.

    Args:
        model: as the user named it.
        served_architectures: what this version's engine runs.

    Raises:
        ConfigError: a value is wrong, or the values do not go together.
    """
    num_gpus = request.gpus or request.tensor_parallel_size or 1
    if hardware.is_cpu and num_gpus != 1:
        raise ConfigError(f"--gpus {num_gpus} makes no sense with --gpu cpu; leave it out")
    return Deployment(
        model=model,
        shape=shape,
        hardware=hardware,
        num_gpus=num_gpus,
        tensor_parallel_size=request.tensor_parallel_size or num_gpus,
        dtype=engine_dtype(request.dtype, shape, hardware),
        rounds_activations=hardware.is_cpu and request.dtype == "bfloat16",
        quantization=_quantization(request.quantization, shape),
        kv_cache_dtype=_one_of("kv_cache_dtype", request.kv_cache_dtype, _KV_CACHE_DTYPES),
        max_model_len=request.max_model_len,
        concurrency=request.concurrency,
        input_len=request.input_len,
        output_len=request.output_len,
        gpu_memory_utilization=request.gpu_memory_utilization,
        max_num_batched_tokens=request.max_num_batched_tokens or hardware.default_step_tokens,
        block_size=request.block_size,
        kv_cache_memory_bytes=request.kv_cache_memory_bytes,
        is_served=shape.architecture in served_architectures and not shape.is_part,
    )


def engine_dtype(name: str, shape: ModelShape, hardware: Hardware) -> str:
    """Return the type that the engine would take; float16 where a GPU lacks the checkpoint's bfloat16.

    Raises:
        ConfigError: there is no type of that name.
    """
    if _one_of("dtype", name, ("auto", *DTYPE_BYTES)) != "auto":
        return name
    return "float16" if shape.dtype == "bfloat16" and not hardware.has_bfloat16 else shape.dtype


def _quantization(name: str | None, shape: ModelShape) -> Quantization | None:
    if name is None:
        return checkpoint_quantization(shape)
    return quantization_named(name)


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigError(f"{field} is {value!r}; it must be one of {', '.join(allowed)}")
    return value
