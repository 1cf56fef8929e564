"""This engine beside transformers: the same weights in the same memory, the same prompts, taking turns in one run."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.generation import Generation, Generator, equal_share, random_prompts
from benchmarks.machine_limits import MachineLimits
from benchmarks.octavo_generation import OctavoGenerator
from benchmarks.random_weights import random_weights
from benchmarks.report import progress
from benchmarks.shapes import Qwen3Shape
from benchmarks.transformers_generation import TransformersGenerator

TABLE_HEADER = (
    "batch",
    "engine",
    "prefill, tok/s",
    "TTFT, s",
    "decode, tok/s",
    "step, ms",
    "weights read, GB/s",
    "prefill, GFLOP/s",
    "ratio prefill",
    "ratio decode",
)


@dataclass(frozen=True, slots=True)
class Load:
    """What is generated.

    Attributes:
        batch_sizes: sequences that run together, one measurement each.
        prompt_len, num_tokens: tokens of each prompt, and of each output (at least 2).
        repeats: measurements of each engine and batch size.
    """

    batch_sizes: tuple[int, ...]
    prompt_len: int
    num_tokens: int
    repeats: int


def compare(shape: Qwen3Shape, load: Load, *, device: str, dtype: str) -> list[dict[str, Any]]:
    """Measure both engines and return one entry for each batch size."""
    with tempfile.TemporaryDirectory() as directory:
        shape.write_config(Path(directory), dtype)
        octavo, transformers = make_generators(shape, Path(directory), load, device=device, dtype=dtype)
    for generator in (octavo, transformers):
        progress(f"warming up {generator.name}")
        generator.generate(random_prompts(1, load.prompt_len, shape.vocab_size, seed=0), 4)
    runs: dict[int, list[tuple[Generation, Generation]]] = {size: [] for size in load.batch_sizes}
    for repeat in range(load.repeats):
        for size in load.batch_sizes:
            progress(f"batch {size}, repetition {repeat + 1} of {load.repeats}")
            # New prompts each time: otherwise the prefix cache would have them all.
            prompts = random_prompts(size, load.prompt_len, shape.vocab_size, seed=1 + repeat * 1000 + size)
            if repeat % 2:
                theirs = transformers.generate(prompts, load.num_tokens)
                ours = octavo.generate(prompts, load.num_tokens)
            else:
                ours = octavo.generate(prompts, load.num_tokens)
                theirs = transformers.generate(prompts, load.num_tokens)
            runs[size].append((ours, theirs))
    bytes_per_element = getattr(torch, dtype).itemsize
    return [_summary(shape, load, size, runs[size], bytes_per_element) for size in load.batch_sizes]


def make_generators(
    shape: Qwen3Shape, directory: Path, load: Load, *, device: str, dtype: str
) -> tuple[Generator, Generator]:
    """Return this engine with random weights, which it reads from ``directory``, and transformers on the same."""
    weights = random_weights(shape)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    length = load.prompt_len + load.num_tokens
    itemsize = getattr(torch, dtype).itemsize
    octavo = OctavoGenerator(
        directory,
        max_model_len=length,
        device=device,
        dtype=dtype,
        # Room for the largest batch and one sequence more, each of which may fill its last block in part.
        kv_cache_memory_bytes=shape.kv_bytes((max(load.batch_sizes) + 1) * (length + 32), itemsize),
    )
    return octavo, TransformersGenerator(
        directory, {name: weight.to(device, getattr(torch, dtype)) for name, weight in weights.items()}
    )


def _summary(
    shape: Qwen3Shape, load: Load, size: int, pairs: Sequence[tuple[Generation, Generation]], bytes_per_element: int
) -> dict[str, Any]:
    ours, theirs = zip(*pairs, strict=True)
    return {
        "batch_size": size,
        OctavoGenerator.name: _rates(shape, load, size, ours, bytes_per_element),
        TransformersGenerator.name: _rates(shape, load, size, theirs, bytes_per_element),
        "ratio": {
            "prefill": statistics.median(b.prefill_s / a.prefill_s for a, b in pairs),
            "decode": statistics.median(b.decode_s / a.decode_s for a, b in pairs),
            "total": statistics.median((b.prefill_s + b.decode_s) / (a.prefill_s + a.decode_s) for a, b in pairs),
        },
        "equal_tokens": statistics.mean(equal_share(a.token_ids, b.token_ids) for a, b in pairs),
    }


def _rates(
    shape: Qwen3Shape, load: Load, size: int, runs: Sequence[Generation], bytes_per_element: int
) -> dict[str, Any]:
    """Return medians over the repetitions, and what they mean in bytes and operations a second."""
    prefill_s = statistics.median(run.prefill_s for run in runs)
    step_s = statistics.median(run.decode_s for run in runs) / (load.num_tokens - 1)
    context_len = load.prompt_len + load.num_tokens / 2
    return {
        "ttft_s": prefill_s,
        "prefill_tokens_per_s": size * load.prompt_len / prefill_s,
        "decode_tokens_per_s": size / step_s,
        "decode_step_ms": step_s * 1e3,
        "weights_read_gb_per_s": shape.num_parameters * bytes_per_element / step_s / 1e9,
        "prefill_gflops": shape.prefill_flops(size, load.prompt_len) / prefill_s / 1e9,
        "decode_gflops": shape.decode_flops(size, context_len) / step_s / 1e9,
        "runs": [{"prefill_s": run.prefill_s, "decode_s": run.decode_s} for run in runs],
    }


def table_rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the rows that belong under ``TABLE_HEADER``."""
    rows = []
    for result in results:
        for name in (OctavoGenerator.name, TransformersGenerator.name):
            rates, ratio = result[name], result["ratio"]
            is_ours = name == OctavoGenerator.name
            rows.append(
                [
                    str(result["batch_size"]),
                    name,
                    f"{rates['prefill_tokens_per_s']:.1f}",
                    f"{rates['ttft_s']:.3f}",
                    f"{rates['decode_tokens_per_s']:.1f}",
                    f"{rates['decode_step_ms']:.1f}",
                    f"{rates['weights_read_gb_per_s']:.1f}",
                    f"{rates['prefill_gflops']:.0f}",
                    f"{ratio['prefill']:.2f}" if is_ours else "",
                    f"{ratio['decode']:.2f}" if is_ours else "",
                ]
            )
    return rows


def describe_limits(limits: MachineLimits, dtype: str) -> str:
    """Return the line below a table that says what the machine could do."""
    return (
        f"This machine reads {limits.read_gb_per_s:.1f} GB/s and multiplies {dtype} matrices with "
        f"{limits.matmul_gflops:.0f} GFLOP/s (measured). Ratios are medians over the repetitions of transformers' time "
        "divided by octavo's; above 1 octavo is faster."
    )


def settings_record(shape: Qwen3Shape, load: Load, *, device: str, dtype: str) -> dict[str, Any]:
    """Return the settings of a comparison, ready for JSON."""
    return {
        "shape": asdict(shape),
        "num_parameters": shape.num_parameters,
        "load": asdict(load),
        "device": device,
        "dtype": dtype,
    }
