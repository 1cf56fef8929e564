"""``octavo simulate`` beside a real server: the same slice of a trace served and simulated, and the ratios."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.environment import describe_environment
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from octavo.bench.calibration import Calibration, calibrate, load_calibration, save_calibration
from octavo.bench.records import BenchResult
from octavo.bench.serve import ServeSettings, Target, Workload, run_serve_benchmark
from octavo.bench.serve_settings import COMPLETIONS_ENDPOINT
from octavo.bench.serving_overhead import measure_overhead
from octavo.bench.summary import Summary, summarize
from octavo.cli.local_server import local_server
from octavo.config import EngineConfig
from octavo.simulate.hardware import Overrides, calibrated_hardware
from octavo.simulate.load import Load, make_requests
from octavo.simulate.simulation import SimulationSettings, simulate

GOALS = {"output throughput": 0.05, "TTFT p50": 0.15, "TPOT p50": 0.15}
_MODEL = "octavo-nano"
# The engine computes in one thread, so that the load generator and the API process have a core of their own.
_THREADS = 1


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a trace.

    Attributes:
        speed: of the replay; 0.25 stretches the time between requests to the fourfold.
        start_s: seconds of the trace that are left out.
    """

    name: str
    speed: float
    start_s: float
    num_requests: int


SLICES = (
    Slice("below saturation", speed=0.2, start_s=600, num_requests=90),
    Slice("saturated", speed=4.0, start_s=1200, num_requests=60),
)
QUICK_SLICES = (Slice("below saturation", speed=0.5, start_s=600, num_requests=8),)


def compare(calibration: Calibration, trace: Path, part: Slice, url: str, api_key: str) -> dict[str, Any]:
    """Serve and simulate a slice of a trace."""
    limits = calibration.limits
    measured = run_serve_benchmark(
        ServeSettings(
            target=Target(
                base_url=url,
                api_key=api_key,
                endpoint=COMPLETIONS_ENDPOINT,
                temperature=0.0,
                extra_body={"skip_special_tokens": False},  # a token without text would not be seen
            ),
            workload=Workload(
                dataset_name="trace",
                dataset_path=trace,
                trace_speed=part.speed,
                trace_start_s=part.start_s,
                max_model_len=limits.max_model_len,
            ),
            num_prompts=part.num_requests,
        )
    )
    hardware = calibrated_hardware(calibration, Overrides())
    requests, _ = make_requests(
        Load(trace=trace, trace_speed=part.speed, trace_start_s=part.start_s, num_prompts=part.num_requests),
        hardware.replica.max_num_tokens,
    )
    started = time.perf_counter()
    outcome = simulate(requests, SimulationSettings(replica=hardware.replica))
    simulated_in_s = time.perf_counter() - started
    return {
        "slice": part,
        "measured": measured.summary,
        "simulated": summarize(outcome.records),
        "simulated_in_s": simulated_in_s,
        "ratios": _ratios(measured.summary, summarize(outcome.records)),
        "equal_lengths": _lengths(measured) == [(r.input_tokens, r.output_tokens) for r in outcome.records],
        "warnings": measured.warnings,
    }


def _lengths(result: BenchResult) -> list[tuple[int, int]]:
    return [(record.input_tokens, record.output_tokens) for record in sorted(result.records, key=lambda r: r.index)]


def _figures(summary: Summary) -> dict[str, float]:
    """Return what is compared, in tokens a second and milliseconds."""
    if summary.ttft_ms is None or summary.tpot_ms is None or summary.num_failed:
        raise RuntimeError(f"{summary.num_failed} requests failed: {dict(summary.errors)}")
    return {
        "output throughput": summary.output_throughput,
        "TTFT p50": summary.ttft_ms.p50,
        "TTFT p99": summary.ttft_ms.p99,
        "TPOT p50": summary.tpot_ms.p50,
        "TPOT p99": summary.tpot_ms.p99,
    }


def _ratios(measured: Summary, simulated: Summary) -> dict[str, float]:
    real, predicted = _figures(measured), _figures(simulated)
    return {name: predicted[name] / real[name] for name in real}


def _goals(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "goal": f"{result['slice'].name}: {name}",
            "value": result["ratios"][name],
            "limit": f"within {limit:.0%} of 1",
            "met": abs(result["ratios"][name] - 1) <= limit,
        }
        for result in results
        for name, limit in GOALS.items()
    ]


def main() -> None:
    """Measure, simulate, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulator_agreement", description=__doc__)
    parser.add_argument(
        "--trace", type=Path, required=True, help="trace to replay, e.g. AzureLLMInferenceTrace_conv.csv"
    )
    parser.add_argument("--calibration", type=Path, help="use this file, which is made if it is not there")
    add_output_options(parser)
    args = parser.parse_args()
    environment = describe_environment()
    if args.calibration is not None and args.calibration.exists():
        calibration = load_calibration(args.calibration)
    else:
        config = EngineConfig.model_validate({"model": _MODEL, "cpu_threads": _THREADS})
        calibration = calibrate(config, budget_s=10 if args.quick else 60, progress=progress)
        if args.calibration is not None:
            save_calibration(calibration, args.calibration)
    results = []
    with local_server([f"--model={_MODEL}", f"--cpu-threads={_THREADS}"]) as server:
        progress("measuring the overhead of the server")
        calibration = measure_overhead(calibration, Target(base_url=server.url, api_key=server.api_key))
        for part in QUICK_SLICES if args.quick else SLICES:
            progress(f"replaying {part.num_requests} requests: {part.name}")
            results.append(compare(calibration, args.trace, part, server.url, server.api_key))
    rows = []
    for result in results:
        real, predicted = _figures(result["measured"]), _figures(result["simulated"])
        rows += [
            [
                result["slice"].name,
                name,
                f"{real[name]:,.1f}",
                f"{predicted[name]:,.1f}",
                f"{result['ratios'][name]:.3f}",
            ]
            for name in real
        ]
    print(markdown_table(["load", "figure (tokens/s, ms)", "measured", "simulated", "ratio"], rows))
    goals = _goals(results)
    for goal in goals:
        print(f"\n{goal['goal']}: {goal['value']:.3f}, goal {goal['limit']}: {'met' if goal['met'] else 'MISSED'}")
    write_json(
        output_path(args, "simulator_agreement"),
        {
            "benchmark": "simulator_agreement",
            "environment": environment,
            "settings": {"model": _MODEL, "cpu_threads": _THREADS, "trace": args.trace.name},
            "calibration": {
                "quality": msgspec.to_builtins(calibration.quality),
                "overhead": msgspec.to_builtins(calibration.overhead),
                "limits": msgspec.to_builtins(calibration.limits),
            },
            "goals": goals,
            "results": msgspec.to_builtins(results),
        },
    )


if __name__ == "__main__":
    main()
