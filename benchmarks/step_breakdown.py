"""Where the time of a decode step goes on a CPU: its recorded kernel calls, each timed, and what is between them.

Random weights in the shape of a real model; greedy decoding of prompts of 128 tokens, all sequences in one batch. Times
of a kernel are medians over the steps, summed over the layers.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.environment import describe_environment, describe_torch
from benchmarks.generation import random_prompts
from benchmarks.machine_limits import measure_bf16_gflops, measure_int8_gops
from benchmarks.octavo_generation import OctavoGenerator
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from benchmarks.shapes import QWEN3_0_6B, SMOLLM2_135M
from octavo.config import DEFAULT_STEP_TOKENS
from octavo.kernels.cpu.recording import Batch, RecordedCalls

PROMPT_LEN = 128
_SHAPES = {"qwen3-0.6b": QWEN3_0_6B, "smollm2-135m": SMOLLM2_135M}
_FORMATS: dict[str, dict[str, object]] = {
    "bf16": {"dtype": "bfloat16"},
    "exact": {"dtype": "auto"},
    "int8": {"quantization": "int8"},
    "int4": {"quantization": "int4"},
}


@dataclass(frozen=True, slots=True)
class TimedStep:
    """The recorded kernel calls of one step: their names and nanoseconds, and when the first one began, in seconds."""

    started_s: float
    batch: Batch
    names: list[str]
    times_ns: list[int]


@contextmanager
def timed_calls() -> Iterator[list[TimedStep]]:
    """Collect the recorded steps that run meanwhile."""
    steps: list[TimedStep] = []
    run = RecordedCalls.run

    def run_timed(self: RecordedCalls, batch: Batch) -> None:
        started_s = time.perf_counter()
        steps.append(TimedStep(started_s, batch, self.names, self.run_timed(batch)))

    RecordedCalls.run = run_timed  # type: ignore[method-assign]
    try:
        yield steps
    finally:
        RecordedCalls.run = run  # type: ignore[method-assign]


def sum_layers(names: list[str], times_ns: list[float], num_layers: int) -> dict[str, float]:
    """Return milliseconds of each call of a layer, over all layers; calls of the same kernel are numbered."""
    calls_a_layer = len(names) // num_layers
    num_repeated = calls_a_layer * num_layers
    sums: Counter[str] = Counter()
    for layer in range(num_layers):
        seen: Counter[str] = Counter()
        for index in range(layer * calls_a_layer, (layer + 1) * calls_a_layer):
            name = names[index]
            seen[name] += 1
            sums[f"{name} {seen[name]}"] += times_ns[index] / 1e6
    for index in range(num_repeated, len(names)):
        sums[f"{names[index]} after the layers"] += times_ns[index] / 1e6
    return dict(sums)


def measure(generator: OctavoGenerator, batch: int, num_steps: int, vocab_size: int, num_layers: int) -> dict[str, Any]:
    """Time one batch: steps from when all prompts are computed until the first sequence ends."""
    generator.generate(random_prompts(batch, PROMPT_LEN, vocab_size, seed=batch), 2)
    with timed_calls() as steps:
        # While the chunks of prompts are computed, the first sequences decode already.
        num_chunks = batch * PROMPT_LEN // DEFAULT_STEP_TOKENS["cpu"]
        generator.generate(random_prompts(batch, PROMPT_LEN, vocab_size, seed=batch + 1), num_steps + num_chunks + 3)
    whole_batch = Batch(batch, batch)
    steps = list(itertools.dropwhile(lambda step: step.batch != whole_batch, steps))[:num_steps]
    medians = [statistics.median(of_call) for of_call in zip(*(step.times_ns for step in steps), strict=True)]
    calls = sum_layers(steps[0].names, medians, num_layers)
    step_ms = 1e3 * statistics.median(b.started_s - a.started_s for a, b in itertools.pairwise(steps))
    return {"batch": batch, "step_ms": step_ms, "calls_ms": calls, "other_ms": step_ms - sum(calls.values())}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_breakdown", description=__doc__)
    parser.add_argument("--shape", choices=sorted(_SHAPES), default="qwen3-0.6b", help="shape of the model")
    parser.add_argument("--formats", nargs="+", choices=list(_FORMATS), default=["bf16", "int8", "int4"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 16, 32], help="numbers of sequences")
    parser.add_argument("--steps", type=int, default=30, help="measured steps of each")
    parser.add_argument("--kv-cache-dtype", default="auto", help="as of octavo serve")
    add_output_options(parser)
    args = parser.parse_args()
    if args.quick:
        args.steps = 5
    shape = _SHAPES[args.shape]
    results = []
    for form in args.formats:
        progress(f"{form}: loading")
        with TemporaryDirectory() as directory:
            shape.write_config(Path(directory), "bfloat16")
            generator = OctavoGenerator(
                Path(directory),
                max_model_len=2048,
                load_format="dummy",
                enable_prefix_caching=False,
                kv_cache_dtype=args.kv_cache_dtype,
                kv_cache_memory_bytes=2**31,
                **_FORMATS[form],
            )
        for batch in args.batches:
            progress(f"{form}: {batch} sequences")
            measured = measure(generator, batch, args.steps, shape.vocab_size, shape.num_layers)
            results.append({"format": form, "kv_cache_dtype": args.kv_cache_dtype, **measured})
        del generator
    limits = {"int8_gops": measure_int8_gops(), "bf16_gflops": measure_bf16_gflops()}
    print(" ".join(f"{name} {value:.0f}" for name, value in limits.items()))
    for form in args.formats:
        of_form = [result for result in results if result["format"] == form]
        calls = list(dict.fromkeys(call for result in of_form for call in result["calls_ms"]))
        rows = [[call, *(f"{result['calls_ms'].get(call, 0):.2f}" for result in of_form)] for call in calls]
        rows.append(["logits, sampling, Python", *(f"{result['other_ms']:.2f}" for result in of_form)])
        rows.append(["whole step", *(f"{result['step_ms']:.2f}" for result in of_form)])
        print(f"\n{form}, ms\n" + markdown_table(["call", *(str(batch) for batch in args.batches)], rows))
    write_json(
        output_path(args, "step_breakdown"),
        {
            "benchmark": "step_breakdown",
            "environment": describe_environment() | {"torch": describe_torch()},
            "settings": {"shape": shape.name, "prompt_len": PROMPT_LEN, "steps": args.steps},
            "limits": limits,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
