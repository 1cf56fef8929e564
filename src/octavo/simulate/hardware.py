"""What a replica is, from a calibration or from a GPU's data sheet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from octavo.bench.calibration import Calibration, default_path, load_calibration
from octavo.config import EngineConfig
from octavo.errors import ConfigError
from octavo.models.hub import resolve_config
from octavo.plan.families import read_model_shape
from octavo.plan.fit import fit
from octavo.plan.hardware import gpu_named
from octavo.plan.prices import built_in_prices, price_of
from octavo.plan.request import engine_dtype
from octavo.plan.roofline import RooflineStepTime
from octavo.plan.weights import checkpoint_quantization, quantization_named
from octavo.simulate.replica import ReplicaSettings

DEFAULT_MAX_NUM_SEQS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the user wants other than the source of the step times says; None keeps that."""

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    num_blocks: int | None = None
    enable_prefix_caching: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedHardware:
    """A replica's settings, and what to call it.

    Attributes:
        target: where the step times come from, for the reader.
        price_per_hour: of one replica in US dollars; None if it is not known.
        price_source: who asks for that price, and when.
    """

    replica: ReplicaSettings
    model: str
    target: str
    price_per_hour: float | None = None
    price_source: str = ""


def find_hardware(
    model: str,
    overrides: Overrides,
    *,
    gpu: str | None = None,
    calibration: Path | None = None,
    tensor_parallel_size: int = 1,
    dtype: str | None = None,
    quantization: str | None = None,
    price_per_hour: float | None = None,
) -> SimulatedHardware:
    """Return the replica that the user asks for: on a GPU, or as measured; if neither, the kept measurement.

    Args:
        tensor_parallel_size, dtype, quantization: of a replica on a GPU.
        price_per_hour: of one replica in US dollars, instead of the price table's.

    Raises:
        ConfigError: the options contradict each other, or there is no calibration.
        ModelError: the model cannot be found or is of a family that is not known.
    """
    if gpu is not None and calibration is not None:
        raise ConfigError("give either --gpu or --calibration: both say how long steps take")
    if gpu is None and (dtype, quantization, tensor_parallel_size) != (None, None, 1):
        raise ConfigError(
            "--dtype, --quantization and --tensor-parallel-size belong to --gpu; a calibration has its own"
        )
    if gpu is not None:
        hardware = gpu_hardware(
            model, gpu, overrides, tensor_parallel_size=tensor_parallel_size, dtype=dtype, quantization=quantization
        )
    else:
        hardware = calibrated_hardware(_find_calibration(model, calibration), overrides)
    if price_per_hour is None:
        return hardware
    return replace(hardware, price_per_hour=price_per_hour, price_source="")


def _find_calibration(model: str, path: Path | None) -> Calibration:
    if path is not None:
        return load_calibration(path)
    kept = default_path(EngineConfig.model_validate({"model": model, "device": "cpu"}))
    if not kept.exists():
        raise ConfigError(
            f"there is no calibration of {model} on this machine: make one with octavo plan {model} --gpu cpu "
            "--calibrate, or name a file with --calibration or a GPU with --gpu"
        )
    return load_calibration(kept)


def calibrated_hardware(calibration: Calibration, overrides: Overrides) -> SimulatedHardware:
    """Return the replica that was measured."""
    limits = calibration.limits
    replica = ReplicaSettings(
        step_time=calibration.step_time,
        num_blocks=limits.num_blocks,
        block_size=limits.block_size,
        max_model_len=limits.max_model_len,
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        overhead=calibration.overhead,
    )
    return SimulatedHardware(
        replica=_overridden(replica, overrides),
        model=calibration.model,
        target=f"{calibration.processor}, {calibration.threads} threads, {calibration.dtype}, measured",
    )


def gpu_hardware(
    model: str,
    gpu: str,
    overrides: Overrides,
    *,
    tensor_parallel_size: int = 1,
    dtype: str | None = None,
    quantization: str | None = None,
) -> SimulatedHardware:
    """Return a replica on a GPU of the catalogue, as fast as the roofline says and with the blocks that fit.

    Args:
        model: directory, ``config.json`` or hub name; only the configuration is read.
        tensor_parallel_size: GPUs of one replica.

    Raises:
        ConfigError: there is no such GPU, or the model does not fit.
        ModelError: the model cannot be found or is of a family that is not known.
    """
    config_file = resolve_config(model)
    shape = read_model_shape(_read_json(config_file), str(config_file))
    hardware = gpu_named(gpu)
    weights_dtype = engine_dtype(dtype or "auto", shape, hardware)
    packing = quantization_named(quantization) if quantization else checkpoint_quantization(shape)
    max_model_len = overrides.max_model_len or shape.max_model_len
    max_num_seqs = overrides.max_num_seqs or DEFAULT_MAX_NUM_SEQS
    max_num_batched_tokens = overrides.max_num_batched_tokens or hardware.default_step_tokens
    memory = fit(
        shape,
        memory_bytes=hardware.memory_bytes,
        max_model_len=max_model_len,
        dtype=weights_dtype,
        quantization=packing,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        tensor_parallel_size=tensor_parallel_size,
    )
    if overrides.num_blocks is None and not memory.fits:
        raise ConfigError(
            f"{model} and one sequence of {max_model_len} tokens do not fit on {tensor_parallel_size} x "
            f"{hardware.name}: octavo plan says what would. Use --max-model-len or --tensor-parallel-size."
        )
    replica = ReplicaSettings(
        step_time=RooflineStepTime(
            shape=shape,
            hardware=hardware,
            dtype=weights_dtype,
            quantization=packing,
            tensor_parallel_size=tensor_parallel_size,
        ),
        num_blocks=memory.num_kv_blocks,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
    )
    price = price_of(hardware, built_in_prices())
    return SimulatedHardware(
        replica=_overridden(replica, overrides),
        model=model,
        target=f"{tensor_parallel_size} x {hardware.name}, roofline estimate",
        price_per_hour=price.usd_per_hour * tensor_parallel_size if price else None,
        price_source=f"{price.provider}, {price.date}" if price else "",
    )


def _overridden(replica: ReplicaSettings, overrides: Overrides) -> ReplicaSettings:
    for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "num_blocks"):
        value = getattr(overrides, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}")
    return replace(
        replica,
        max_model_len=overrides.max_model_len or replica.max_model_len,
        max_num_seqs=overrides.max_num_seqs or replica.max_num_seqs,
        max_num_batched_tokens=overrides.max_num_batched_tokens or replica.max_num_batched_tokens,
        num_blocks=overrides.num_blocks or replica.num_blocks,
        enable_prefix_caching=overrides.enable_prefix_caching,
    )


def _read_json(path: Path) -> dict[str, object]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
