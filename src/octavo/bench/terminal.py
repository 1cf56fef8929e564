"""A load test in the terminal: how it stands while it runs, and its figures at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar

from octavo.bench.progress import OnProgress, Progress
from octavo.bench.records import BenchResult
from octavo.bench.summary import Distribution, Slo, Summary

_LATENCIES = {
    "ttft_ms": "TTFT, time to first token",
    "tpot_ms": "TPOT, time per output token after it",
    "itl_ms": "ITL, between two streamed pieces",
    "e2e_ms": "E2E, whole request",
}
_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")
_LABEL_WIDTH = 38


@contextmanager
def live_progress(console: Console) -> Iterator[OnProgress]:
    """Show progress on a terminal; where there is none, nothing is shown."""
    if not console.is_terminal:
        yield lambda progress: None
        return
    with ProgressBar(BarColumn(24), TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("preparing prompts", total=None)

        def show(progress: Progress) -> None:
            num_over = progress.num_done + progress.num_failed
            total, completed = (
                (progress.num_requests, num_over)
                if progress.num_requests is not None
                else (progress.duration_s, progress.elapsed_s)
            )
            bar.update(task, description=describe_progress(progress), total=total, completed=completed)

        yield show


def describe_progress(progress: Progress) -> str:
    """Return one line of figures."""
    of_all = f"/{progress.num_requests:,}" if progress.num_requests is not None else ""
    elapsed_s = max(progress.elapsed_s, 1e-3)
    parts = [
        f"{progress.phase} {progress.elapsed_s:.0f} s",
        f"{progress.num_done + progress.num_failed:,}{of_all} requests",
        f"{progress.num_under_way:,} under way",
        f"{progress.num_done / elapsed_s:,.1f} req/s",
        f"{progress.num_output_tokens / elapsed_s:,.0f} tok/s",
    ]
    parts += [f"TTFT {progress.ttft_ms:,.1f} ms"] if progress.ttft_ms is not None else []
    parts += [f"TPOT {progress.tpot_ms:,.2f} ms"] if progress.tpot_ms is not None else []
    parts += [f"{progress.num_failed:,} failed"] if progress.num_failed else []
    return "  ".join(parts)


def describe_result(result: BenchResult) -> str:
    """Return the figures of a test as plain text."""
    summary = result.summary
    sections = [
        [f"{result.model} at {result.target}: {summary.num_requests:,} requests in {summary.duration_s:.2f} s"],
        _throughput(summary),
        _latencies(summary),
        [
            line
            for kind, count in summary.errors.items()
            for line in (f"{count:,} x {kind}", f"    {summary.error_messages.get(kind, '')}")
        ],
        [f"warning: {warning}" for warning in result.warnings],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _throughput(summary: Summary) -> list[str]:
    failed = f", {summary.num_failed:,} failed" if summary.num_failed else ""
    cached = f", {summary.total_cached_tokens:,} of them cached" if summary.total_cached_tokens else ""
    total_tokens = summary.total_input_tokens + summary.total_output_tokens
    lines = [
        _row("requests", f"{summary.request_throughput:,.2f}/s", f"{summary.num_successful:,} successful{failed}"),
        _row("input tokens", f"{summary.input_throughput:,.1f}/s", f"{summary.total_input_tokens:,}{cached}"),
        _row("output tokens", f"{summary.output_throughput:,.1f}/s", f"{summary.total_output_tokens:,}"),
        _row("all tokens", f"{summary.total_throughput:,.1f}/s", f"{total_tokens:,}"),
        _row("under way", f"{summary.mean_concurrency:,.1f}", f"on average, at most {summary.max_concurrency:,}"),
    ]
    if summary.slo is not None and summary.goodput is not None:
        share = summary.goodput / summary.request_throughput if summary.request_throughput else 0.0
        objectives = f"{share:.1%} of the successful ones had {_describe_slo(summary.slo)}"
        lines.append(_row("goodput", f"{summary.goodput:,.2f}/s", objectives))
    if summary.gpu_memory_used_bytes is not None:
        lines.append(_row("GPU memory", f"{summary.gpu_memory_used_bytes / 2**30:,.2f} GiB", "at most"))
    return lines


def _row(name: str, value: str, remark: str) -> str:
    return f"{name:<14}{value:>16}   {remark}"


def _describe_slo(slo: Slo) -> str:
    limits = {"TTFT": slo.ttft_ms, "TPOT": slo.tpot_ms, "ITL": slo.itl_ms, "E2E": slo.e2e_ms}
    return ", ".join(f"{name} <= {limit:g} ms" for name, limit in limits.items() if limit is not None)


def _latencies(summary: Summary) -> list[str]:
    rows = []
    for name, label in _LATENCIES.items():
        values: Distribution | None = getattr(summary, name)
        if values is not None:
            rows.append(f"{label:<{_LABEL_WIDTH}}" + "".join(f"{getattr(values, c):>10,.2f}" for c in _COLUMNS))
    header = f"{'latency, ms':<{_LABEL_WIDTH}}" + "".join(f"{column:>10}" for column in _COLUMNS)
    return [header, *rows] if rows else []
