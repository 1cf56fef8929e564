"""Native attention on the CPU beside the machine's limits: decode in GB/s, prefill in GFLOP/s, small calls in µs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from benchmarks.environment import describe_environment, describe_torch
from benchmarks.machine_limits import MachineLimits, measure_limits
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from octavo.kernels import cpu

GOAL_PREFILL_SHARE = 0.6
GOAL_CALL_US = 4.0
# Qwen3-0.6B.
_NUM_HEADS, _NUM_KV_HEADS, _HEAD_DIM = 16, 8, 128
_BLOCK_SIZE = 16
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
_MAX_CACHE_BYTES = 2**30
_SMALL_CALLS = 2000


def make_call(lengths: list[tuple[int, int]], dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return a call of attention for (query length, sequence length) pairs over a cache of random numbers."""
    needs = [-(-length // _BLOCK_SIZE) for _, length in lengths]
    shape = (sum(needs) + 1, _BLOCK_SIZE, _NUM_KV_HEADS, _HEAD_DIM)
    caches = [torch.empty(shape, dtype=dtype) for _ in range(2)]
    for cache in caches:
        _ = cache.random_(-127, 128) if dtype is torch.int8 else cache.normal_()
    scales = [torch.full(shape[:3], 0.01) if dtype is torch.int8 else None for _ in range(2)]
    tables = torch.zeros(len(lengths), max(needs), dtype=torch.int32)
    for row, blocks in enumerate((torch.randperm(shape[0] - 1) + 1).split(needs)):
        tables[row, : len(blocks)] = blocks
    query_lens, seq_lens = [queries for queries, _ in lengths], [length for _, length in lengths]
    query = torch.randn(sum(query_lens), _NUM_HEADS, _HEAD_DIM)
    starts = torch.tensor([0, *query_lens]).cumsum(0).int()
    ends = torch.tensor(seq_lens, dtype=torch.int32)
    return lambda: cpu.paged_attention(
        *(query, *caches, tables, starts, ends, query_lens, seq_lens, _HEAD_DIM**-0.5),
        key_scales=scales[0],
        value_scales=scales[1],
    )


def best_seconds(call: Callable[[], object], budget_s: float) -> float:
    """Return the seconds of the fastest call within a budget, and of three calls at least."""
    times: list[float] = []
    until = time.perf_counter() + budget_s
    call()
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def measure_decode(names: list[str], batches: list[int], contexts: list[int], budget_s: float) -> list[dict[str, Any]]:
    """Measure one query a sequence, for each type of cache that fits."""
    results = []
    for name in names:
        bytes_of_head = _HEAD_DIM * _DTYPES[name].itemsize + (4 if name == "int8" else 0)
        for num_seqs in batches:
            for context in contexts:
                num_bytes = 2 * num_seqs * context * _NUM_KV_HEADS * bytes_of_head
                if num_bytes > _MAX_CACHE_BYTES:
                    continue
                progress(f"decode {name} {num_seqs} x {context}")
                seconds = best_seconds(make_call([(1, context)] * num_seqs, _DTYPES[name]), budget_s)
                rate = num_bytes / seconds / 1e9
                results.append(
                    {"kv_cache": name, "num_seqs": num_seqs, "context": context, "best_us": seconds * 1e6}
                    | {"gb_per_s": rate}
                )
    return results


def measure_prefill(names: list[str], lengths: list[int], budget_s: float) -> list[dict[str, Any]]:
    """Measure one whole prompt, for each type of cache."""
    results = []
    for name in names:
        for length in lengths:
            progress(f"prefill {name} {length}")
            seconds = best_seconds(make_call([(length, length)], _DTYPES[name]), budget_s)
            rate = 2 * _NUM_HEADS * _HEAD_DIM * length * (length + 1) / seconds / 1e9
            results.append({"kv_cache": name, "num_tokens": length, "best_us": seconds * 1e6, "gflops": rate})
    return results


def measure_machine() -> MachineLimits:
    """Measure reading and computing in float32."""
    return measure_limits(torch.device("cpu"), torch.float32, buffer_bytes=2**28, matrix_size=1024)


def measure_small_calls() -> dict[str, float]:
    """Return the microseconds of a call for one token, which is mostly what surrounds the kernel."""
    x, weight, gates = torch.randn(1, 1024), torch.randn(1024), torch.randn(1, 6144)
    qkv = torch.randn(1, (_NUM_HEADS + 2 * _NUM_KV_HEADS) * _HEAD_DIM).unflatten(1, (-1, _HEAD_DIM))
    query, key, value = qkv.split((_NUM_HEADS, _NUM_KV_HEADS, _NUM_KV_HEADS), dim=1)
    angle, slot, norm = torch.randn(1, _HEAD_DIM), torch.tensor([5]), torch.randn(_HEAD_DIM)
    caches = [torch.zeros(2, _BLOCK_SIZE, _NUM_KV_HEADS, _HEAD_DIM) for _ in range(2)]
    calls: dict[str, Callable[[], object]] = {
        "rms_norm": lambda: cpu.rms_norm(x, weight, 1e-6, x),
        "silu_and_mul": lambda: cpu.silu_and_mul(gates),
        "rotary_write_kv": lambda: cpu.rotary_write_kv(
            query, key, value, angle, angle, *caches, slot, norm, norm, 1e-6
        ),
        "paged_attention": make_call([(1, 1)], torch.float32),
    }

    def repeat(call: Callable[[], object]) -> None:
        for _ in range(_SMALL_CALLS):
            call()

    return {
        name: best_seconds(lambda call=call: repeat(call), 0.1) / _SMALL_CALLS * 1e6 for name, call in calls.items()
    }


def check_goals(prefill: list[dict[str, Any]], small_calls: dict[str, float]) -> list[dict[str, Any]]:
    """Return each goal with the worst value that was reached."""
    share, slowest = min(result["share_of_limit"] for result in prefill), max(small_calls.values())
    return [
        {"goal": "share of the limit, prefill", "value": share, "limit": GOAL_PREFILL_SHARE}
        | {"met": share >= GOAL_PREFILL_SHARE},
        {"goal": "microseconds a small call", "value": slowest, "limit": GOAL_CALL_US, "met": slowest <= GOAL_CALL_US},
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_attention", description=__doc__)
    parser.add_argument("--kv-cache", nargs="+", choices=_DTYPES, default=list(_DTYPES), help="types of the cache")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 1024, 8192])
    parser.add_argument("--prompts", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--threads", type=int, default=cpu.default_num_threads())
    parser.add_argument("--seconds", type=float, default=0.3, help="of each case")
    add_output_options(parser)
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.batches, args.contexts, args.prompts = 0.02, [1], [128], [128]
    environment = describe_environment()
    torch.set_num_threads(args.threads)
    cpu.load_native().set_num_threads(args.threads)
    torch.manual_seed(0)
    all_limits = [measure_machine()]
    decode = measure_decode(args.kv_cache, args.batches, args.contexts, args.seconds)
    all_limits.append(measure_machine())
    prefill = measure_prefill(args.kv_cache, args.prompts, args.seconds)
    all_limits.append(measure_machine())
    small_calls = measure_small_calls()
    limits = MachineLimits(
        max(limit.read_gb_per_s for limit in all_limits), max(limit.matmul_gflops for limit in all_limits)
    )
    for result in decode:
        result["share_of_limit"] = result["gb_per_s"] / limits.read_gb_per_s
    for result in prefill:
        result["share_of_limit"] = result["gflops"] / limits.matmul_gflops

    rows = [
        (f"decode, {r['num_seqs']} x {r['context']}", r["kv_cache"], r["best_us"], f"{r['gb_per_s']:.1f} GB/s", r)
        for r in decode
    ]
    rows += [
        (f"prefill, {r['num_tokens']}", r["kv_cache"], r["best_us"], f"{r['gflops']:.0f} GFLOP/s", r) for r in prefill
    ]
    cells = [[case, name, f"{us:.0f}", rate, f"{r['share_of_limit']:.0%}"] for case, name, us, rate, r in rows]
    print(markdown_table(["case", "KV cache", "µs", "rate", "of the limit"], cells))
    print(
        f"\nThis machine reads {limits.read_gb_per_s:.1f} GB/s and multiplies float32 matrices with "
        f"{limits.matmul_gflops:.0f} GFLOP/s (torch); {args.threads} threads, {cpu.native_status().active_isa}."
    )
    print("A call for one token: " + ", ".join(f"{name} {us:.1f} µs" for name, us in small_calls.items()))
    goals = check_goals(prefill, small_calls)
    for goal in goals:
        print(f"\n{goal['goal']}: {goal['value']:.2f}, goal {goal['limit']}: {'met' if goal['met'] else 'MISSED'}")
    write_json(
        output_path(args, "cpu_attention"),
        {
            "benchmark": "cpu_attention",
            "environment": environment,
            "torch": describe_torch(),
            "native": asdict(cpu.native_status()),
            "settings": {"threads": args.threads, "seconds": args.seconds},
            "limits": asdict(limits),
            "goals": goals,
            "decode": decode,
            "prefill": prefill,
            "small_calls_us": small_calls,
        },
    )


if __name__ == "__main__":
    main()
