"""This engine and transformers' ``generate`` on a random-weight model of Qwen3-0.6B's shape, on the CPU."""

from __future__ import annotations

import argparse
from dataclasses import asdict

import torch

from benchmarks.comparison import TABLE_HEADER, Load, compare, describe_limits, settings_record, table_rows
from benchmarks.environment import describe_environment, describe_torch
from benchmarks.machine_limits import measure_limits
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from benchmarks.shapes import QUICK, QWEN3_0_6B

_DEVICE = "cpu"


def main() -> None:
    """Measure, print and write."""
    args = _parse_args()
    shape = QUICK if args.quick else QWEN3_0_6B
    load = Load(
        batch_sizes=tuple(args.batch_sizes),
        prompt_len=args.prompt_tokens,
        num_tokens=args.new_tokens,
        repeats=args.repeats,
    )
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    environment = describe_environment() | {"torch": describe_torch()}
    progress("measuring the limits of the machine")
    buffer_bytes, matrix_size = (2**26, 512) if args.quick else (2**30, 2048)
    limits = measure_limits(
        torch.device(_DEVICE), getattr(torch, args.dtype), buffer_bytes=buffer_bytes, matrix_size=matrix_size
    )
    results = compare(shape, load, device=_DEVICE, dtype=args.dtype)

    print(f"{shape.name}, {args.dtype}, {load.prompt_len} prompt tokens, {load.num_tokens} new tokens\n")
    print(markdown_table(TABLE_HEADER, table_rows(results)))
    print(f"\n{describe_limits(limits, args.dtype)}")
    for result in results:
        print(f"Batch {result['batch_size']}: {result['equal_tokens']:.1%} of the tokens before a first difference.")
    write_json(
        output_path(args, f"transformers_comparison_{args.dtype}"),
        {
            "benchmark": "transformers_comparison",
            "environment": environment,
            "settings": settings_record(shape, load, device=_DEVICE, dtype=args.dtype),
            "limits": asdict(limits),
            "results": results,
        },
    )


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transformers_comparison", description=__doc__)
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="of weights and activations"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="sequences in a batch (default: 1 8 16)")
    parser.add_argument("--prompt-tokens", type=int, help="tokens of each prompt (default: 128)")
    parser.add_argument("--new-tokens", type=int, help="tokens generated for each prompt, at least 2 (default: 64)")
    parser.add_argument("--repeats", type=int, help="measurements of each engine and batch size (default: 5)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    add_output_options(parser)
    args = parser.parse_args()
    args.batch_sizes = args.batch_sizes or ([1, 2] if args.quick else [1, 8, 16])
    args.repeats = args.repeats or (1 if args.quick else 5)
    args.prompt_tokens = args.prompt_tokens or (32 if args.quick else 128)
    args.new_tokens = args.new_tokens or (8 if args.quick else 64)
    if args.new_tokens < 2:
        parser.error("--new-tokens must be at least 2: the first token belongs to the prefill")
    return args


if __name__ == "__main__":
    main()
