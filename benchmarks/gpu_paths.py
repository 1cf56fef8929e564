"""Checks and times what runs only on a GPU, in one call of a few minutes: exactness, memory, speed.

Exit code 0: all parts ran and all checks hold. 1: a part failed or a check does not hold. 3: no GPU, nothing was done.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.comparison import TABLE_HEADER, Load, compare, describe_limits, settings_record, table_rows
from benchmarks.environment import describe_environment, describe_torch
from benchmarks.generation import equal_share, random_prompts
from benchmarks.machine_limits import measure_limits
from benchmarks.octavo_generation import OctavoGenerator
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from benchmarks.shapes import QUICK, QWEN3_0_6B, Qwen3Shape
from octavo.engine.sampling_params import SamplingParams
from tests.checkpoints import make_checkpoint

NO_GPU = 3
_DTYPE = "bfloat16"
_PROMPT_LENS = (1, 2, 5, 16, 17, 40, 100, 300)
_NUM_TOKENS = 48
_MAX_MODEL_LEN = 512
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "mistral, window of 24": ("mistral", {"sliding_window": 24}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
}
_ENGINES: dict[str, dict[str, Any]] = {
    "default": {"kv_cache_memory_bytes": 2**26},
    "16 tokens a step": {"kv_cache_memory_bytes": 2**26, "max_num_batched_tokens": 16},
    "preemption": {"num_blocks": _MAX_MODEL_LEN // 16 + 1},
}
_SEEDED = SamplingParams(temperature=0.8, top_p=0.9, top_k=40, repetition_penalty=1.1, max_tokens=_NUM_TOKENS)


def check_exactness(device: str) -> list[dict[str, Any]]:
    """Compare tokens of ``device`` with those of the CPU, both in float32, for a small checkpoint of each family.

    Greedy tokens must be equal. Seeded sampling is reported beside them: at the edge of a threshold rounding may
    tip it.
    """
    results = []
    for name, (family, overrides) in _FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            directory = make_checkpoint(Path(folder) / "checkpoint", family, **overrides)
            prompts = [random_prompts(1, length, 256, seed=length)[0] for length in _PROMPT_LENS]
            expected = _small_engine(directory, "cpu", "default")
            greedy = expected.generate(prompts, _NUM_TOKENS).token_ids
            seeded = expected.generate(prompts, _NUM_TOKENS, _SEEDED).token_ids
            for setting in _ENGINES:
                progress(f"exactness: {name}, {setting}")
                engine = _small_engine(directory, device, setting)
                greedy_share = equal_share(greedy, engine.generate(prompts, _NUM_TOKENS).token_ids)
                results.append(
                    {
                        "family": name,
                        "engine": setting,
                        "greedy_equal": greedy_share,
                        "seeded_equal": equal_share(seeded, engine.generate(prompts, _NUM_TOKENS, _SEEDED).token_ids),
                        "num_preemptions": engine.core.stats().total_preemptions,
                        "holds": greedy_share == 1.0,
                    }
                )
    return results


def _small_engine(directory: Path, device: str, setting: str) -> OctavoGenerator:
    config = dict(_ENGINES[setting])
    if "num_blocks" in config:
        # 3 layers, 2 key heads of 16 dimensions, float32; one block more for padding
        config["kv_cache_memory_bytes"] = (config.pop("num_blocks") + 1) * 16 * (2 * 3 * 2 * 16 * 4)
    return OctavoGenerator(directory, max_model_len=_MAX_MODEL_LEN, device=device, dtype="float32", **config)


def check_memory(shape: Qwen3Shape, long_prompt: int) -> list[dict[str, Any]]:
    """Build an engine for each of several shares of the GPU and see that work stays within the share.

    The work: as many sequences as may run at once, then one long prompt.
    """
    results = []
    total = torch.cuda.mem_get_info()[1]
    for utilization in (0.2, 0.5, 0.9):
        progress(f"memory: gpu_memory_utilization {utilization}")
        _release_memory()
        with tempfile.TemporaryDirectory() as folder:
            shape.write_config(Path(folder), _DTYPE)
            started = time.perf_counter()
            engine = OctavoGenerator(
                Path(folder),
                max_model_len=shape.max_position_embeddings,
                load_format="dummy",
                device="cuda",
                dtype=_DTYPE,
                gpu_memory_utilization=utilization,
            )
            build_s = time.perf_counter() - started
        built = _used_memory(total)
        engine.generate(random_prompts(256, 64, shape.vocab_size, seed=1), 4)
        after_many = _used_memory(total)
        long_run = engine.generate(random_prompts(1, long_prompt, shape.vocab_size, seed=2), 2)
        after_long = _used_memory(total)
        results.append(
            {
                "gpu_memory_utilization": utilization,
                "num_blocks": engine.ready.num_blocks,
                "num_tokens": engine.ready.num_blocks * engine.ready.block_size,
                "build_s": build_s,
                "used_share_built": built,
                "used_share_after_256_sequences": after_many,
                "used_share_after_long_prompt": after_long,
                "long_prompt": long_prompt,
                "long_prompt_tokens_per_s": long_prompt / long_run.prefill_s,
                "holds": max(built, after_many, after_long) <= utilization + 0.01,
            }
        )
        del engine
    _release_memory()
    return results


def _used_memory(total: int) -> float:
    """Return the share of the GPU's memory that is in use; torch keeps what it once took, so this is the peak."""
    torch.cuda.synchronize()
    return 1 - torch.cuda.mem_get_info()[0] / total


def _release_memory() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def measure_speed(shape: Qwen3Shape, load: Load, device: str) -> dict[str, Any]:
    """Time prefill and decode beside transformers, and what the device could do."""
    limits = measure_limits(torch.device(device), getattr(torch, _DTYPE), buffer_bytes=2**32, matrix_size=8192)
    return {
        "settings": settings_record(shape, load, device=device, dtype=_DTYPE),
        "limits": asdict(limits),
        "comparison": compare(shape, load, device=device, dtype=_DTYPE),
        "description": describe_limits(limits, _DTYPE),
    }


def run_part(name: str, part: Callable[[], Any]) -> dict[str, Any]:
    """Run one part and keep its result or its failure: time on a GPU is too rare to lose the others over it."""
    started = time.perf_counter()
    try:
        outcome: dict[str, Any] = {"result": part()}
    except Exception:
        outcome = {"error": traceback.format_exc()}
        progress(f"{name} failed:\n{outcome['error']}")
    return outcome | {"seconds": time.perf_counter() - started}


def main() -> int:
    """Run all parts, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_paths", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16, 64], help="sequences in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each engine and batch size")
    add_output_options(parser)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch finds no CUDA device: this benchmark needs a GPU. Nothing was measured.", file=sys.stderr)
        return NO_GPU
    shape, long_prompt = (QUICK, 4096) if args.quick else (QWEN3_0_6B, 32768)
    load = Load(tuple(args.batch_sizes), prompt_len=128, num_tokens=64, repeats=1 if args.quick else args.repeats)

    environment = describe_environment() | {"torch": describe_torch()}
    parts = {
        "exactness": run_part("exactness", lambda: check_exactness("cuda")),
        "memory": run_part("memory", lambda: check_memory(shape, long_prompt)),
        "speed": run_part("speed", lambda: measure_speed(shape, load, "cuda")),
    }
    for name in ("exactness", "memory"):
        if rows := parts[name].get("result"):
            print(f"## {name}\n\n{markdown_table(list(rows[0]), [_cells(row) for row in rows])}\n")
    if speed := parts["speed"].get("result"):
        print(f"## speed\n\n{markdown_table(TABLE_HEADER, table_rows(speed['comparison']))}\n\n{speed['description']}")
    write_json(output_path(args, "gpu_paths"), {"benchmark": "gpu_paths", "environment": environment, "parts": parts})
    failed = [name for name, part in parts.items() if "error" in part]
    failed += [
        name for name in ("exactness", "memory") if not all(row["holds"] for row in parts[name].get("result", []))
    ]
    if failed:
        print(f"failed, or a check does not hold: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _cells(row: dict[str, Any]) -> list[str]:
    return [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()]


if __name__ == "__main__":
    sys.exit(main())
