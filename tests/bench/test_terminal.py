"""What a load test says in the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from octavo.bench.progress import Progress
from octavo.bench.summary import Slo, summarize
from octavo.bench.terminal import describe_progress, describe_result, live_progress
from tests.bench.made_up import made_up_records, made_up_result

_PROGRESS = Progress(
    phase="test",
    elapsed_s=10.0,
    num_requests=200,
    duration_s=None,
    num_under_way=8,
    num_done=120,
    num_failed=2,
    num_output_tokens=12_000,
    ttft_ms=31.5,
    tpot_ms=4.25,
)


def test_progress_is_one_line() -> None:
    assert describe_progress(_PROGRESS) == (
        "test 10 s  122/200 requests  8 under way  12.0 req/s  1,200 tok/s  TTFT 31.5 ms  TPOT 4.25 ms  2 failed"
    )


def test_progress_is_shown_on_a_terminal_only() -> None:
    for is_terminal in (True, False):
        written = io.StringIO()
        with live_progress(Console(file=written, force_terminal=is_terminal, width=150)) as show:
            show(_PROGRESS)
        assert ("122/200 requests" in written.getvalue()) is is_terminal


def test_result_has_rates_latencies_errors_and_warnings() -> None:
    records = made_up_records(20, failing=3)
    summary = summarize(records, Slo(ttft_ms=1e9))
    result = made_up_result(records)
    result.summary = summary
    result.warnings = ["the machine was busy"]
    text = describe_result(result)
    ttft = next(line for line in text.splitlines() if line.startswith("TTFT"))
    assert summary.ttft_ms is not None
    assert f"{summary.ttft_ms.p99:,.2f}" in ttft
    for part in ("17 successful, 3 failed", "100.0% of the successful ones had TTFT", "3 x http_503", "queue is full"):
        assert part in text
    assert text.endswith("warning: the machine was busy")
