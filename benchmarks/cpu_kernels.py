"""The native CPU kernels beside torch and the machine's limits: Qwen3-0.6B's linear layers, and the thread pool.

For int8 and int4 weights the limit of computing is that of products of int8 numbers, and the activations are rounded
within the measured time; torch has float32 and bfloat16 weights there. The same holds for bfloat16 weights with rounded
activations (``bfloat16_rounded``) and the limit of bfloat16 products.

All candidates take turns, round by round, and the best time of each counts: a busy moment hits all of them alike.
Weights are read from memory, not from a cache: few rows go over many copies of a weight in turn. torch's OpenMP threads
spin for a while after each product, on the core of whatever is measured next: set ``OMP_WAIT_POLICY=PASSIVE`` and
``GOMP_SPINCOUNT=0``, as the engine process does.
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
from benchmarks.machine_limits import MachineLimits, measure_bf16_gflops, measure_int8_gops, measure_limits
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from octavo.kernels import cpu

GOAL_SHARE = 0.85
# Of the limit of computing, for int8 and int4.
GOAL_INTEGER_SHARE = 0.75
GOAL_REGION_US = 3.0
_CPU = torch.device("cpu")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_INTEGER_FORMATS = ("int8", "int4", "int8_groups")
_ROUNDED = "bfloat16_rounded"
_PROBE_STEPS = 1_000_000
# More than the last-level cache holds.
_COPIES_BYTES = 200 * 2**20
_REGIONS = 5_000


PackedLayer = cpu.PackedWeight | cpu.PackedInt8Weight | cpu.PackedInt4Weight | cpu.PackedInt8GroupsWeight


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer; a gated one is followed by silu and a product."""

    name: str
    in_features: int
    out_features: int
    gated: bool = False

    @property
    def num_weights(self) -> int:
        """Numbers of its weight."""
        return self.in_features * self.out_features


QWEN3_0_6B = (
    Layer("qkv", 1024, 4096),
    Layer("o", 2048, 1024),
    Layer("gate_up", 1024, 6144, gated=True),
    Layer("down", 3072, 1024),
    Layer("lm_head", 1024, 151_936),
)


@dataclass(slots=True)
class Case:
    """One layer with one number of rows, the bytes of its packed weight, and each candidate's best seconds so far."""

    layer: Layer
    num_tokens: int
    num_bytes: int = 0
    best_s: dict[str, float] = field(default_factory=dict)

    def measure(self, name: str, run: Callable[[int], object], num_copies: int) -> None:
        """Run a candidate on each copy of its weight and keep the mean time if it is the best."""
        num_calls = num_copies if self.num_tokens <= 64 else 1
        started = time.perf_counter()
        for copy in range(num_calls):
            run(copy)
        seconds = (time.perf_counter() - started) / num_calls
        self.best_s[name] = min(seconds, self.best_s.get(name, seconds))


def pack_weight(wide: Tensor, name: str, group_size: int, *, gated: bool) -> PackedLayer:
    """Pack a matrix in a format; how well it is rounded does not matter here."""
    if name == _ROUNDED:
        return cpu.pack(wide.bfloat16(), gated=gated, rounds_activations=True)
    if name not in _INTEGER_FORMATS:
        return cpu.pack(wide.to(_DTYPES[name]), gated=gated)
    if name == "int8":
        scales = wide.abs().amax(dim=1) / 127
        return cpu.pack_int8((wide / scales.unsqueeze(1)).round().to(torch.int8), scales, gated=gated)
    groups = wide.view(len(wide), -1, group_size)
    if name == "int8_groups":
        group_scales = (groups.abs().amax(dim=2, keepdim=True) / 127).half()
        return cpu.pack_int8_groups(
            (groups / group_scales).round().clamp(-128, 127).add(128).to(torch.uint8).flatten(1),
            group_scales.squeeze(2),
            gated=gated,
        )
    group_scales = (groups.abs().amax(dim=2, keepdim=True) / 7).half()
    values = (groups / group_scales).round().clamp(-8, 7).add(8).to(torch.uint8).flatten(1)
    return cpu.pack_int4(values[:, 0::2] | values[:, 1::2] << 4, group_scales.squeeze(2), gated=gated)


def run_layer(
    layer: Layer, cases: list[Case], name: str, group_size: int, rounds: int, limits: list[MachineLimits]
) -> None:
    """Measure all cases of one layer, ``rounds`` times in turn, and the machine's limits between them."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn((layer.out_features, layer.in_features), generator=generator)
    packed = [pack_weight(wide, name, group_size, gated=layer.gated)]
    num_bytes = packed[0].num_bytes
    num_copies = max(1, _COPIES_BYTES // num_bytes)
    packed += [pack_weight(wide, name, group_size, gated=layer.gated) for _ in range(num_copies - 1)]
    candidates: dict[str, tuple[torch.dtype, list[Tensor]]] = {
        f"torch {str(kind).removeprefix('torch.')}": (
            kind,
            [wide.to(kind, copy=True) for _ in range(max(1, _COPIES_BYTES // (layer.num_weights * kind.itemsize)))],
        )
        for kind in dict.fromkeys((torch.float32, _DTYPES.get(name, torch.bfloat16)))
    }
    for _ in range(rounds):
        limits.append(measure_format_limits(name))
        for case in cases:
            case.num_bytes = num_bytes
            x = torch.randn((case.num_tokens, layer.in_features), generator=generator)
            case.measure("octavo", lambda copy, x=x: run_octavo(layer, x, packed[copy]), num_copies)
            for candidate, (kind, weights) in candidates.items():
                narrow = x.to(kind)
                case.measure(
                    candidate, lambda copy, x=narrow, weights=weights: run_torch(layer, x, weights[copy]), len(weights)
                )


def measure_format_limits(name: str) -> MachineLimits:
    """Measure reading, and computing with a format's numbers: float32, or others with all operands in registers."""
    limits = measure_limits(_CPU, torch.float32, buffer_bytes=2**28, matrix_size=1024)
    if name in _INTEGER_FORMATS:
        return MachineLimits(limits.read_gb_per_s, measure_int8_gops(_PROBE_STEPS))
    if name == _ROUNDED:
        return MachineLimits(limits.read_gb_per_s, measure_bf16_gflops(_PROBE_STEPS))
    return limits


def run_octavo(layer: Layer, x: Tensor, weight: PackedLayer) -> Tensor:
    """Compute a layer with the native kernels."""
    if isinstance(weight, cpu.PackedInt8Weight):
        return cpu.int8_linear_silu_and_mul(x, weight) if layer.gated else cpu.int8_linear(x, weight)
    if isinstance(weight, cpu.PackedInt8GroupsWeight):
        return cpu.int8_groups_linear_silu_and_mul(x, weight) if layer.gated else cpu.int8_groups_linear(x, weight)
    if isinstance(weight, cpu.PackedInt4Weight):
        return cpu.int4_linear_silu_and_mul(x, weight) if layer.gated else cpu.int4_linear(x, weight)
    return cpu.linear_silu_and_mul(x, weight) if layer.gated else cpu.linear(x, weight)


def run_torch(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """Compute a layer with torch."""
    y = F.linear(x, weight)
    if not layer.gated:
        return y
    gate, up = y.chunk(2, dim=-1)
    return F.silu(gate) * up


def summarize(cases: list[Case], limits: MachineLimits) -> list[dict[str, Any]]:
    """Return the rates of each case, and its share of the limit: reading all weights, or computing all products."""
    results = []
    for case in cases:
        flops = 2 * case.num_tokens * case.layer.num_weights
        least_s = max(case.num_bytes / limits.read_gb_per_s, flops / limits.matmul_gflops) / 1e9
        ours = case.best_s["octavo"]
        results.append(
            {
                "layer": case.layer.name,
                "num_tokens": case.num_tokens,
                "best_us": {name: seconds * 1e6 for name, seconds in case.best_s.items()},
                "gb_per_s": case.num_bytes / ours / 1e9,
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


def check_goals(results: list[dict[str, Any]], region_us: float, name_of_format: str) -> list[dict[str, Any]]:
    """Return each goal with the value that was reached: the worst layer's share for one row and for the most rows."""
    most = max(result["num_tokens"] for result in results)
    goals = []
    for num_tokens in dict.fromkeys((1, most)):
        shares = [result["share_of_limit"] for result in results if result["num_tokens"] == num_tokens]
        if shares:
            worst = min(shares)
            goal = GOAL_INTEGER_SHARE if num_tokens == most and name_of_format in _INTEGER_FORMATS else GOAL_SHARE
            name = f"share of the limit, {num_tokens} rows"
            goals.append({"goal": name, "value": worst, "limit": goal, "met": worst >= goal})
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
    parser.add_argument(
        "--dtype", choices=(*_DTYPES, _ROUNDED, *_INTEGER_FORMATS), default="bfloat16", help="type of the weights"
    )
    parser.add_argument(
        "--group-size", type=int, choices=(32, 64, 128), default=64, help="of int4 and int8_groups weights"
    )
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

    region_us = measure_regions(20)
    all_limits: list[MachineLimits] = []
    cases: list[Case] = []
    for layer in QWEN3_0_6B:
        if args.layers and layer.name not in args.layers:
            continue
        progress(f"{layer.name}: {layer.in_features} to {layer.out_features}")
        of_layer = [Case(layer, num_tokens) for num_tokens in args.rows]
        run_layer(layer, of_layer, args.dtype, args.group_size, args.rounds, all_limits)
        cases += of_layer

    limits = MachineLimits(
        max(limit.read_gb_per_s for limit in all_limits), max(limit.matmul_gflops for limit in all_limits)
    )
    results = summarize(cases, limits)
    torch_names = [f"to {name}" for name in results[0]["times_faster_than"]]
    header = [
        "layer",
        "rows",
        "µs",
        "GB/s",
        "GOP/s" if args.dtype in _INTEGER_FORMATS else "GFLOP/s",
        "of the limit",
        *torch_names,
    ]
    print(markdown_table(header, table_rows(results)))
    computes = (
        f"computes {limits.matmul_gflops:.0f} GOP/s of int8 products in registers"
        if args.dtype in _INTEGER_FORMATS
        else f"computes {limits.matmul_gflops:.0f} GFLOP/s of bfloat16 products in registers"
        if args.dtype == _ROUNDED
        else f"multiplies float32 matrices with {limits.matmul_gflops:.0f} GFLOP/s (torch)"
    )
    print(
        f"\nThis machine reads {limits.read_gb_per_s:.1f} GB/s and {computes}, best of the same run; {args.threads} "
        f"threads, {cpu.native_status().active_isa}. The limit is the longer of reading the weight and computing the "
        "product."
    )
    goals = check_goals(results, region_us, args.dtype)
    for goal in goals:
        print(f"\n{goal['goal']}: {goal['value']:.2f}, goal {goal['limit']}: {'met' if goal['met'] else 'MISSED'}")
    write_json(
        output_path(args, "cpu_kernels"),
        {
            "benchmark": "cpu_kernels",
            "environment": environment,
            "torch": describe_torch(),
            "native": asdict(cpu.native_status()),
            "settings": {
                "dtype": args.dtype,
                "group_size": args.group_size if args.dtype in ("int4", "int8_groups") else None,
                "rows": args.rows,
                "threads": args.threads,
                "rounds": args.rounds,
            },
            "limits": asdict(limits),
            "region_us": region_us,
            "goals": goals,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
