"""What leaves a benchmark: a JSON file with everything, and a Markdown table with what matters."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--quick`` and ``--output``, which every benchmark has."""
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: shows only that it runs")
    parser.add_argument(
        "--output", type=Path, help="JSON file to write (default: results/NAME.json here; with --quick none)"
    )


def output_path(args: argparse.Namespace, name: str) -> Path | None:
    """Return where the options say that the result belongs."""
    if args.output is not None:
        return Path(args.output)
    return None if args.quick else RESULTS / f"{name}.json"


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write a result, if there is a place for it."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table whose first column is left-aligned and whose others are right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def progress(message: str) -> None:
    """Say on standard error what is being measured."""
    print(message, file=sys.stderr, flush=True)
