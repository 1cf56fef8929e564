"""This engine and its peers on a CPU, in one run, by turns: prefill, decode, serving, second turns, start and memory.

Results of a run join those of earlier ones in the JSON: a case and an engine measured again replace what was there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.cpu_peers.cases import QUICK_LOAD, Load, choose_cases
from benchmarks.cpu_peers.checkpoints import export_for_openvino, make_checkpoints
from benchmarks.cpu_peers.measuring import Setting, measure_case
from benchmarks.cpu_peers.plots import draw
from benchmarks.cpu_peers.tables import render
from benchmarks.cpu_peers.variants import PACKAGES, Variant, choose_variants, find_python
from benchmarks.environment import describe_environment
from benchmarks.machine_limits import measure_bf16_gflops, measure_int8_gops, measure_limits
from benchmarks.report import add_output_options, output_path, progress, write_json
from benchmarks.shapes import QUICK, QWEN3_0_6B, SMOLLM2_135M
from octavo.kernels import cpu

_SHAPES = {"qwen3-0.6b": QWEN3_0_6B, "smollm2-135m": SMOLLM2_135M, "quick": QUICK}
_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_PROBE_STEPS = 20_000_000


def main() -> None:
    """Measure, join with what was measured before, print, write and draw."""
    args = _parse_args()
    key = "quick" if args.quick else args.shape
    path = output_path(args, f"cpu_peers_{key}")
    record = _read(path) | {"benchmark": "cpu_peers", "shape": asdict(_SHAPES[key])}
    if not args.report:
        _measure(args, key, record, path)
    print(render(record["results"], record["runs"]))
    if args.plot:
        for name, chart in draw(record["results"], _SHAPES[key].name).items():
            image = _IMAGES / f"cpu_peers_{key}_{name}.svg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_text(chart, encoding="utf-8")
            progress(f"wrote {image}")


def _measure(args: argparse.Namespace, key: str, record: dict[str, Any], path: Path | None) -> None:
    """Measure the cases, add each to the record and write it."""
    torch.set_num_threads(args.threads)
    cpu.load_native().set_num_threads(args.threads)
    environment = describe_environment()
    paths = make_checkpoints(args.cache, key, _SHAPES[key])
    pythons = _find_pythons(args.variants, args.peer_python, args.cache)
    if "openvino" in pythons:
        try:
            paths |= export_for_openvino(args.cache, key, pythons["openvino"])
        except (OSError, subprocess.CalledProcessError) as error:
            progress(f"OpenVINO has no model: {error}")
            del pythons["openvino"]
    if args.prepare:
        return
    load = QUICK_LOAD if args.quick else Load()
    run = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    record["runs"][run] = {
        "environment": environment,
        "settings": {"threads": args.threads, "rounds": args.rounds, "load": asdict(load)},
        "limits": _measure_limits(args.quick),
    }
    with tempfile.TemporaryDirectory() as logs:
        setting = Setting(_SHAPES[key], load, args.threads, args.rounds, paths, pythons, Path(logs))
        for case in args.cases:
            known = record["results"].setdefault(case.name, {})
            measured = measure_case(case, args.variants, setting)
            known.update({name: result | {"run": run} for name, result in measured.items()})
            record["runs"][run]["limits"] = _best_of(record["runs"][run]["limits"], _measure_limits(args.quick))
            _forget_unused_runs(record)
            write_json(path, record)


def _best_of(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """Return the higher of each limit: a busy moment can only lower it."""
    return {name: max(value, second[name]) for name, value in first.items()}


def _forget_unused_runs(record: dict[str, Any]) -> None:
    used = {one["run"] for case in record["results"].values() for one in case.values()}
    record["runs"] = {name: one for name, one in record["runs"].items() if name in used}


def _find_pythons(variants: Sequence[Variant], given: dict[str, Path], cache: Path) -> dict[str, Path]:
    pythons = {}
    for engine in dict.fromkeys(variant.engine for variant in variants):
        try:
            pythons[engine] = find_python(engine, given, cache)
        except subprocess.CalledProcessError as error:
            progress(f"{engine} cannot be installed: {error}")
    return pythons


def _measure_limits(quick: bool) -> dict[str, float]:
    limits = measure_limits(
        torch.device("cpu"), torch.float32, buffer_bytes=2**26 if quick else 2**29, matrix_size=512 if quick else 2048
    )
    num_steps = _PROBE_STEPS // (100 if quick else 1)
    return asdict(limits) | {
        "int8_gops": measure_int8_gops(num_steps),
        "bf16_gflops": measure_bf16_gflops(num_steps),
    }


def _read(path: Path | None) -> dict[str, Any]:
    if path is None or not path.exists():
        return {"runs": {}, "results": {}}
    record: dict[str, Any] = json.loads(path.read_bytes())
    return record


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_peers", description=__doc__)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "octavo-benchmarks"
    shapes = sorted(set(_SHAPES) - {"quick"})
    parser.add_argument("--shape", choices=shapes, default="qwen3-0.6b", help="of the model")
    parser.add_argument("--cases", nargs="+", default=["prefill", "decode"], help="what is measured")
    parser.add_argument(
        "--variants", nargs="+", default=["*"], help="engines and weights, e.g. 'octavo*' 'llama.cpp q8_0'"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each")
    parser.add_argument("--threads", type=int, default=2, help="of each engine")
    parser.add_argument("--cache", type=Path, default=cache, help=f"checkpoints and environments (default: {cache})")
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="ENGINE=PATH",
        help=f"Python of an environment with a peer ({', '.join(PACKAGES)}); else one is made",
    )
    parser.add_argument("--prepare", action="store_true", help="only make checkpoints and environments")
    parser.add_argument("--report", action="store_true", help="measure nothing, show what was measured")
    parser.add_argument("--plot", action="store_true", help="draw charts into docs/images/")
    add_output_options(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds = 1
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    try:
        args.cases, args.variants = choose_cases(args.cases), choose_variants(args.variants)
    except ValueError as error:
        parser.error(str(error))
    pythons = {}
    for item in args.peer_python:
        engine, separator, path = item.partition("=")
        if not separator or engine not in PACKAGES:
            parser.error(f"--peer-python takes ENGINE=PATH, where ENGINE is one of {', '.join(PACKAGES)}, not {item!r}")
        pythons[engine] = Path(path)
    args.peer_python = pythons
    return args


if __name__ == "__main__":
    main()
