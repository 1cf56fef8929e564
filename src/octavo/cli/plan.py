"""``octavo plan``: what a model needs, what fits, how fast it is and what it costs, from its config.json alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from octavo.cli.arguments import build_command
from octavo.cli.number_options import count_option, size_option
from octavo.config.schema import MODEL_IN_THE_BOX
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from octavo.plan.deployment import Deployment
    from octavo.plan.hardware import Hardware
    from octavo.plan.prices import Price
    from octavo.plan.step_time import StepTimeModel

EXIT_DOES_NOT_FIT = 1
_CPU = "cpu"


def make_command() -> Any:
    """Return the command."""
    return build_command("plan", plan)


_GPUS = count_option("GPUs in all. [default: those of one replica, or 1]")
_TENSOR_PARALLEL_SIZE = count_option("GPUs that share a replica. [default: all]")
_MAX_MODEL_LEN = count_option("Longest sequence. [default: what the model is made for, if it fits]")
_CONCURRENCY = count_option("Requests at the same time in one replica. [default: as many as fit, at most 256]")
_INPUT_LEN = count_option("Tokens of a prompt. [default: 1024]")
_OUTPUT_LEN = count_option("Tokens of an answer. [default: 256]")
_MAX_NUM_BATCHED_TOKENS = count_option("Most tokens in one step. [default: 512 on a CPU, else 2048]")
_BLOCK_SIZE = count_option("Tokens in one block of the KV cache. [default: 16]")
_KV_CACHE_MEMORY_BYTES = size_option("Memory of the KV cache. [default: what is left]")


def plan(
    model: str | None = typer.Argument(
        None,
        metavar="MODEL",
        help="Directory, config.json, hub name (only config.json is fetched); octavo-nano if left out.",
        show_default=False,
    ),
    gpu: str | None = typer.Option(
        None, metavar="NAME", help="GPU of the catalogue, or cpu for this machine's. [default: what this machine has]"
    ),
    gpus: int | None = _GPUS,
    tensor_parallel_size: int | None = _TENSOR_PARALLEL_SIZE,
    dtype: str = typer.Option("auto", metavar="auto|float32|bfloat16|float16", help="Type of the weights."),
    quantization: str | None = typer.Option(
        None, metavar="METHOD", help="Packing of the weights: fp8, int8, int4, awq, gptq, mxfp4, nvfp4."
    ),
    kv_cache_dtype: str = typer.Option(
        "auto", metavar="TYPE", help="Type of the KV cache: auto, float32, bfloat16, float16, int8, fp8."
    ),
    max_model_len: int | None = _MAX_MODEL_LEN,
    concurrency: int | None = _CONCURRENCY,
    input_len: int | None = _INPUT_LEN,
    output_len: int | None = _OUTPUT_LEN,
    gpu_memory_utilization: float = typer.Option(
        0.9, min=0.01, max=1, metavar="NUMBER", help="Part of a GPU's memory that may be used."
    ),
    max_num_batched_tokens: int | None = _MAX_NUM_BATCHED_TOKENS,
    block_size: int | None = _BLOCK_SIZE,
    kv_cache_memory_bytes: int | None = _KV_CACHE_MEMORY_BYTES,
    revision: str | None = typer.Option(None, metavar="REVISION", help="Hub revision of the model."),
    prices: Path | None = typer.Option(None, metavar="FILE", help="JSON or YAML list of prices, for the built-in one."),
    calibrate: bool = typer.Option(
        False, "--calibrate", help="With --gpu cpu: first measure this machine (about 90 s)."
    ),
    calibration: Path | None = typer.Option(
        None, metavar="FILE", help="Calibration to use, or with --calibrate to write."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the plan as JSON."),
    list_gpus: bool = typer.Option(False, "--list-gpus", help="Show the catalogue of GPUs and end."),
) -> int:
    """Plan a deployment: what a model needs, what fits, how fast it is, what it costs, and the command for it.

    Only the model's config.json is read. The exit code is 1 if it does not fit; then the plan says what to change.
    """
    from octavo.cli.plan_screen import print_gpus, print_plan  # these need not be there for --help
    from octavo.models.hub import resolve_config
    from octavo.models.registry import ARCHITECTURES
    from octavo.plan.planner import make_plan
    from octavo.plan.prices import built_in_prices, read_prices
    from octavo.plan.record import plan_record
    from octavo.plan.request import PlanRequest, deployment_of, read_shape

    table: Sequence[Price] = read_prices(prices) if prices else built_in_prices()
    if list_gpus:
        print_gpus(table)
        return 0
    name = model or MODEL_IN_THE_BOX
    path = resolve_config(name, revision=revision)
    served_name = _directory_of(path) if Path(name).suffix == ".json" else name
    numbers = {
        "gpus": gpus,
        "tensor_parallel_size": tensor_parallel_size,
        "max_model_len": max_model_len,
        "concurrency": concurrency,
        "input_len": input_len,
        "output_len": output_len,
        "max_num_batched_tokens": max_num_batched_tokens,
        "block_size": block_size,
        "kv_cache_memory_bytes": kv_cache_memory_bytes,
    }
    request = PlanRequest(
        dtype=dtype,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        gpu_memory_utilization=gpu_memory_utilization,
        **{field: number for field, number in numbers.items() if number is not None},
    )
    hardware = _hardware(gpu)
    shape = read_shape(path)
    deployment = deployment_of(served_name, shape, hardware, request, served_architectures=ARCHITECTURES)
    step_time, source = _measured(deployment, dtype, calibrate, calibration, revision)
    made = make_plan(deployment, prices=table, step_time=step_time, speed_source=source)
    if as_json:
        typer.echo(json.dumps(plan_record(made), indent=2))
    else:
        print_plan(made)
    return 0 if made.fits else EXIT_DOES_NOT_FIT


def _directory_of(config_file: Path) -> str:
    """Return the model that a configuration stands for: its directory, or what a copy of it is called."""
    return str(config_file.parent if config_file.name == "config.json" else config_file.with_suffix(""))


def _hardware(name: str | None) -> Hardware:
    """Return the hardware of this name, or what this machine has."""
    from octavo.engine.memory import available_host_memory
    from octavo.plan.hardware import cpu_hardware, gpu_named
    from octavo.plan.this_machine import gpu_names

    found = name or next(iter(gpu_names()), _CPU)
    return cpu_hardware(available_host_memory()) if found.lower() == _CPU else gpu_named(found)


def _measured(
    deployment: Deployment, dtype: str, calibrate_now: bool, path: Path | None, revision: str | None
) -> tuple[StepTimeModel | None, str]:
    """Return step times that were measured on this machine's processor, and where they are from; None on a GPU."""
    if not deployment.hardware.is_cpu:
        if calibrate_now or path:
            raise ConfigError("--calibrate and --calibration are for --gpu cpu; GPUs are planned from their data sheet")
        return None, ""
    if not deployment.is_served:
        return None, ""
    from octavo.bench.calibration import calibrate, default_path, load_calibration, save_calibration
    from octavo.config import EngineConfig

    # What is automatic stays so, since other commands look for the calibration of the same settings.
    settings = {
        "model": deployment.model,
        "revision": revision,
        "dtype": dtype,
        "device": "cpu",
    }
    config = EngineConfig.model_validate(settings)
    kept = path or default_path(config)
    if calibrate_now:
        made = calibrate(config, progress=lambda line: typer.echo(f"octavo: {line}", err=True))
        save_calibration(made, kept)
    elif path or kept.exists():
        made = load_calibration(kept)
    else:
        return None, ""
    return made.step_time, f"measured on this machine ({made.processor}, {made.threads} threads, {kept})"
