#!/usr/bin/env python3
"""Load-test an OpenAI-compatible server and print the figures that capacity runbooks ask for.

    python scripts/benchmark_inference.py --endpoint http://localhost:8000 --model M --concurrency 32 --requests 1000

It is ``octavo bench serve`` with few flags; that command has the others. It runs from a checkout and with an installed
octavo alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

if (installed := importlib.util.find_spec("octavo")) is None or installed.origin is None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from octavo.bench.html_report import write_html_report
from octavo.bench.records import BenchResult, write_result
from octavo.bench.serve import Arrivals, ServeSettings, Target, Workload, run_serve_benchmark
from octavo.config.sizes import format_bytes
from octavo.errors import ConfigError, OctavoError


def main(arguments: list[str] | None = None) -> int:
    """Run the test; 0 if a request succeeded, 1 if the server failed, 2 if a flag is wrong."""
    args = _parse(arguments)
    try:
        result = run_serve_benchmark(
            ServeSettings(
                target=Target(base_url=args.endpoint, model=args.model, api_key=args.api_key),
                workload=Workload(input_len=args.input_len, output_len=args.output_len),
                arrivals=Arrivals(max_concurrency=args.concurrency),
                num_prompts=args.requests,
                num_warmups=args.warmups,
                seed=args.seed,
            )
        )
        sys.stdout.write("\n".join(figures(result)) + "\n")
        for path, write in ((args.output, write_result), (args.html, write_html_report)):
            if path is not None:
                write(result, path)
    except OctavoError as error:
        sys.stderr.write(f"benchmark_inference: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    for warning in result.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return 0 if result.summary.num_successful else 1


def figures(result: BenchResult) -> list[str]:
    """Return the lines to print."""
    summary = result.summary
    lines = [
        ("Model", result.model),
        ("Requests", f"{summary.num_successful} succeeded, {summary.num_failed} failed in {summary.duration_s:.2f} s"),
        ("Requests/s", f"{summary.request_throughput:.2f}"),
    ]
    if summary.e2e_ms is not None:
        latencies = (("P50", summary.e2e_ms.p50), ("P95", summary.e2e_ms.p95), ("P99", summary.e2e_ms.p99))
        lines += [(f"{name} latency", f"{value:.1f} ms") for name, value in latencies]
    if summary.ttft_ms is not None:
        lines.append(("P50 TTFT", f"{summary.ttft_ms.p50:.1f} ms"))
    lines += [
        ("Input tokens/s", f"{summary.input_throughput:.1f}"),
        ("Output tokens/s", f"{summary.output_throughput:.1f}"),
        ("GPU memory", _gpu_memory(result)),
    ]
    errors = sorted({record.error_message for record in result.records if record.error is not None})
    lines += [("Error", message) for message in errors[:3]]
    return [f"{name + ':':<17}{value}" for name, value in lines]


def _gpu_memory(result: BenchResult) -> str:
    used = result.summary.gpu_memory_used_bytes
    if used is None:
        return f"no GPU metrics at {result.target.rstrip('/').removesuffix('/v1')}/metrics"
    return f"{format_bytes(used)} at most"


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load-test an OpenAI-compatible server.")
    parser.add_argument("--endpoint", required=True, help="URL of the server, with /v1 or without")
    parser.add_argument("--model", help="name of the model (default: the first that the server lists)")
    parser.add_argument("--concurrency", type=_count, default=32, help="requests under way at a time (default: 32)")
    parser.add_argument("--requests", type=_count, default=1000, help="requests in all (default: 1000)")
    parser.add_argument("--input-len", type=_count, default=512, help="tokens of each prompt (default: 512)")
    parser.add_argument("--output-len", type=_count, default=128, help="tokens of each answer (default: 128)")
    parser.add_argument("--warmups", type=int, default=1, help="requests before those that count (default: 1)")
    parser.add_argument("--api-key", help="key for the server")
    parser.add_argument("--seed", type=int, default=0, help="seed of the prompts (default: 0)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file for the result")
    parser.add_argument("--html", type=Path, metavar="FILE", help="HTML file for the report")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
