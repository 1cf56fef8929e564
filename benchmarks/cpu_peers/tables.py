"""The Markdown tables of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cpu_peers.cases import Case
from benchmarks.cpu_peers.goals import cases_of, in_order, is_ours, judge, median_figures, share_of_limit
from benchmarks.cpu_peers.variants import Variant
from benchmarks.report import markdown_table

_COLUMNS: dict[str, dict[str, str]] = {
    "prefill": {"tokens_per_s": "tok/s", "ttft_s": "TTFT, s", "gflops": "GFLOP/s"},
    "decode": {"tokens_per_s": "tok/s", "step_ms": "step, ms", "gb_per_s": "GB/s", "gflops": "GFLOP/s"},
    "http": {"tokens_per_s": "tok/s", "ttft_ms": "TTFT, ms", "itl_ms": "ITL, ms", "worst_itl_ms": "worst ITL, ms"},
    "second-turn": {"first_ttft_s": "first TTFT, s", "second_ttft_s": "second TTFT, s", "ttft_ratio": "second / first"},
    "ready": {"ready_s": "ready, s"},
    "memory": {"pss_mb": "PSS, MB", "weights_mb": "weights, MB", "over_weights_and_kv_mb": "over weights and KV, MB"},
}


def render(results: Mapping[str, Any], runs: Mapping[str, Any]) -> str:
    """Return a table for each case, and a line below each that says what the machine could do."""
    return "\n\n".join(_case(case, results[case.name], runs) for case in cases_of(results))


def _case(case: Case, measured: Mapping[str, Any], runs: Mapping[str, Any]) -> str:
    columns = _COLUMNS[case.name.partition("-")[0] if case.name.startswith("decode") else case.name]
    rows, missing = [], []
    for variant in in_order(measured):
        if "missing" in measured[variant.name]:
            missing.append(f"- {variant.name} is missing: {measured[variant.name]['missing']}")
        else:
            rows.append(_row(case, variant, columns, measured, runs[measured[variant.name]["run"]]["limits"]))
    header = [
        "engine and weights",
        *columns.values(),
        *(["of the limit"] if case.call == "generate" else []),
        "best peer",
        "ratio",
        "goal",
        "met",
    ]
    ceilings = [_ceilings(run, runs[run]) for run in sorted({one["run"] for one in measured.values()})]
    return "\n".join([f"### {case.name}", "", markdown_table(header, rows), "", *ceilings, *missing])


def _row(
    case: Case,
    variant: Variant,
    columns: Mapping[str, str],
    measured: Mapping[str, Any],
    limits: Mapping[str, float],
) -> list[str]:
    figures = median_figures(measured[variant.name]["rounds"])
    share = share_of_limit(case, variant, figures, limits)
    cells = [variant.name, *(_number(figures[key]) for key in columns)]
    if case.call == "generate":
        cells.append("" if share is None else f"{share:.0%}")
    if not is_ours(variant.name):
        return [*cells, "", "", "", ""]
    verdict = judge(case, variant, measured, limits)
    ratio = "" if verdict.ratio is None else f"{verdict.ratio:.2f}{'' if verdict.same_run else ' (another run)'}"
    return [*cells, verdict.peer or "", ratio, verdict.goal, {True: "yes", False: "no", None: "?"}[verdict.met]]


def _ceilings(name: str, run: Mapping[str, Any]) -> str:
    limits = run["limits"]
    bfloat16 = f"bfloat16 with {limits['bf16_gflops']:.0f} GFLOP/s " if "bf16_gflops" in limits else ""
    return (
        f"The machine in run {name}: reads {limits['read_gb_per_s']:.1f} GB/s, multiplies float32 with "
        f"{limits['matmul_gflops']:.0f} GFLOP/s, {bfloat16}and int8 with {limits['int8_gops']:.0f} GOP/s."
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
