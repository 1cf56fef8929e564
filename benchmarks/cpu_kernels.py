"""The native CPU kernels beside torch and the machine's limits: Qwen3-0.6B's linear layers, and the thread pool.

All candidates take turns, round by round, and the best time of each counts: a busy moment hits all of them alike.
Weights are read from memory, not from a cache: few rows go over many copies of a weight in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.environment import describe_environment, describe_torch
from benchmarks.machine_limits import MachineLimits, measure_limits
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from octavo.kernels import cpu

GOAL_SHARE = 0.85
GOAL_REGION_US = 3.0
_CPU = torch.device("cpu")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# More than the last-level cache holds.
_COPIES_BYTES = 200 * 2**20
_REGIONS = 5_000


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer; a gated one is followed by silu and a product."""

    name: str
    in_features: int
    out_features: int
    gated: bool = False

    def bytes_read(self, itemsize: int) -> int:
        """Bytes of its weight."""
        return self.in_features * self.out_features * itemsize


QWEN3_0_6B = (
    Layer("qkv", 1024, 4096),
    Layer("o", 2048, 1024),
    Layer("gate_up", 1024, 6144, gated=True),
    Layer("down", 3072, 1024),
    Layer("lm_head", 1024, 151_936),
)


@dataclass(slots=True)
class Case:
    """One layer with one number of rows, and the best seconds of each candidate so far."""

    layer: Layer
    num_tokens: int
    best_s: dict[str, float] = field(default_factory=dict)

    def measure(self, name: str, run: Callable[[int], object], num_copies: int) -> None:
        """Run a candidate on each copy of its weight and keep the mean time if it is the best."""
        num_calls = num_copies if self.num_tokens <= 64 else 1
        started = time.perf_counter()
        for copy in range(num_calls):
            run(copy)
        seconds = (time.perf_counter() - started) / num_calls
        self.best_s[name] = min(seconds, self.best_s.get(name, seconds))


def run_layer(layer: Layer, cases: list[Case], dtype: torch.dtype, rounds: int, limits: list[MachineLimits]) -> None:
    """Measure all cases of one layer, ``rounds`` times in turn, and the machine's limits between them."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn((layer.out_features, layer.in_features), generator=generator)
    weight = wide.to(dtype)
    num_copies = max(1, _COPIES_BYTES // layer.bytes_read(dtype.itemsize))
    packed = [cpu.pack(weight, gated=layer.gated) for _ in range(num_copies)]
    candidates: dict[str, tuple[torch.dtype, list[Tensor]]] = {
        f"torch {str(kind).removeprefix('torch.')}": (
            kind,
            [wide.to(kind, copy=True) for _ in range(max(1, _COPIES_BYTES // layer.bytes_read(kind.itemsize)))],
        )
        for kind in dict.fromkeys((torch.float32, dtype))
    }
    for _ in range(rounds):
        limits.append(measure_limits(_CPU, torch.float32, buffer_bytes=2**28, matrix_size=1024))
        for case in cases:
            x = torch.randn((case.num_tokens, layer.in_features), generator=generator)
            case.measure("octavo", lambda copy, x=x: run_octavo(layer, x, packed[copy]), num_copies)
            for name, (kind, weights) in candidates.items():
                narrow = x.to(kind)
                case.measure(
                    name, lambda copy, x=narrow, weights=weights: run_torch(layer, x, weights[copy]), len(weights)
                )


def run_octavo(layer: Layer, x: Tensor, weight: cpu.PackedWeight) -> Tensor:
    """Compute a layer with the native kernels."""
    return cpu.linear_silu_and_mul(x, weight) if layer.gated else cpu.linear(x, weight)


def run_torch(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """Compute a layer with torch."""
    y = F.linear(x, weight)
    if not layer.gated:
        return y
    gate, up = y.chunk(2, dim=-1)
    return F.silu(gate) * up


def summarize(cases: list[Case], dtype: torch.dtype, limits: MachineLimits) -> list[dict[str, Any]]:
    """Return the rates of each case, and its share of the limit: reading all weights, or computing all products."""
    results = []
    for case in cases:
        num_bytes = case.layer.bytes_read(dtype.itemsize)
        flops = 2 * case.num_tokens * case.layer.in_features * case.layer.out_features
        least_s = max(num_bytes / limits.read_gb_per_s, flops / limits.matmul_gflops) / 1e9
        ours = case.best_s["octavo"]
        results.append(
            {
                "layer": case.layer.name,
                "num_tokens": case.num_tokens,
                "best_us": {name: seconds * 1e6 for name, seconds in case.best_s.items()},
                "gb_per_s": num_bytes / ours / 1e9,
                "gflops": flops / ours / 1e9,
                "share_of_limit": least_s / ours,
                "times_faster_than": {name: s / ours for name, s in case.best_s.items() if name != "octavo"},
            }
        )
    return results


def measure_regions(rounds: int) -> float:
    """Return the microseconds of a parallel region that all threads enter and leave: the best round's mean."""
    best_s = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        cpu.load_native().pool_probes.meet(_REGIONS)
        best_s = min(best_s, time.perf_counter() - started)
    return best_s / _REGIONS * 1e6


def check_goals(results: list[dict[str, Any]], region_us: float) -> list[dict[str, Any]]:
    """Return each goal with the value that was reached: the worst layer's share for one row and for the most rows."""
    most = max(result["num_tokens"] for result in results)
    goals = []
    for num_tokens in dict.fromkeys((1, most)):
        shares = [result["share_of_limit"] for result in results if result["num_tokens"] == num_tokens]
        if shares:
            worst = min(shares)
            name = f"share of the limit, {num_tokens} rows"
            goals.append({"goal": name, "value": worst, "limit": GOAL_SHARE, "met": worst >= GOAL_SHARE})
    name = "microseconds a parallel region"
    goals.append({"goal": name, "value": region_us, "limit": GOAL_REGION_US, "met": region_us <= GOAL_REGION_US})
    return goals


def table_rows(results: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of the printed table."""
    return [
        [
            result["layer"],
            str(result["num_tokens"]),
            f"{result['best_us']['octavo']:.0f}",
            f"{result['gb_per_s']:.1f}",
            f"{result['gflops']:.0f}",
            f"{result['share_of_limit']:.0%}",
            *(f"{ratio:.2f}" for ratio in result["times_faster_than"].values()),
        ]
        for result in results
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_kernels", description=__doc__)
    parser.add_argument("--dtype", choices=_DTYPES, default="bfloat16", help="type of the weights")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128, 512], help="rows of x")
    parser.add_argument("--layers", nargs="+", choices=[layer.name for layer in QWEN3_0_6B], help="default: all")
    parser.add_argument("--threads", type=int, default=cpu.default_num_threads())
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each layer")
    add_output_options(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.rows, args.layers = 1, [1, 16], ["o"]
    environment = describe_environment()
    torch.set_num_threads(args.threads)
    cpu.load_native().set_num_threads(args.threads)

    dtype = _DTYPES[args.dtype]
    region_us = measure_regions(20)
    all_limits: list[MachineLimits] = []
    cases: list[Case] = []
    for layer in QWEN3_0_6B:
        if args.layers and layer.name not in args.layers:
            continue
        progress(f"{layer.name}: {layer.in_features} to {layer.out_features}")
        of_layer = [Case(layer, num_tokens) for num_tokens in args.rows]
        run_layer(layer, of_layer, dtype, args.rounds, all_limits)
        cases += of_layer

    limits = MachineLimits(
        max(limit.read_gb_per_s for limit in all_limits), max(limit.matmul_gflops for limit in all_limits)
    )
    results = summarize(cases, dtype, limits)
    torch_names = [f"to {name}" for name in results[0]["times_faster_than"]]
    header = ["layer", "rows", "µs", "GB/s", "GFLOP/s", "of the limit", *torch_names]
    print(markdown_table(header, table_rows(results)))
    print(
        f"\nThis machine reads {limits.read_gb_per_s:.1f} GB/s and multiplies float32 matrices with "
        f"{limits.matmul_gflops:.0f} GFLOP/s (torch, best of the same run); {args.threads} threads, "
        f"{cpu.native_status().active_isa}. The limit is the longer of reading the weight and computing the product."
    )
    goals = check_goals(results, region_us)
    for goal in goals:
        print(f"\n{goal['goal']}: {goal['value']:.2f}, goal {goal['limit']}: {'met' if goal['met'] else 'MISSED'}")
    write_json(
        output_path(args, "cpu_kernels"),
        {
            "benchmark": "cpu_kernels",
            "environment": environment,
            "torch": describe_torch(),
            "native": asdict(cpu.native_status()),
            "settings": {"dtype": args.dtype, "rows": args.rows, "threads": args.threads, "rounds": args.rounds},
            "limits": asdict(limits),
            "region_us": region_us,
            "goals": goals,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
