"""The load generator says so when it is itself too slow."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from octavo.bench.client_lag import ClientLag, LoopMonitor, lag_warnings


def lag(**fields: float) -> ClientLag:
    return ClientLag(**{**dict.fromkeys(ClientLag.__struct_fields__, 0.0), **fields})


async def test_monitor_notices_that_the_loop_was_blocked() -> None:
    monitor = LoopMonitor()
    watching = asyncio.create_task(monitor.watch())
    await asyncio.sleep(0.03)
    time.sleep(0.08)  # noqa: ASYNC251 (this is what the monitor is for)
    await asyncio.sleep(0.03)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    found = monitor.report([0.001, 0.002, 0.003])
    assert found.loop_delay_max_ms > 60
    assert (found.send_lag_p50_ms, found.send_lag_max_ms) == pytest.approx((2, 3))
    assert found.cpu_share > 0


@pytest.mark.parametrize(
    ("delay_ms", "median_ttft_ms", "warns"),
    [(11, None, True), (9, None, False), (9, 160, True), (7, 160, False), (4.9, 1, False), (5.1, 1, True)],
)
def test_warning_depends_on_the_latency_that_is_measured(
    delay_ms: float, median_ttft_ms: float | None, warns: bool
) -> None:
    for name in ("loop_delay_p99_ms", "send_lag_p99_ms"):
        found = lag_warnings(lag(**{name: delay_ms}), median_ttft_ms)
        assert bool(found) is warns
        if warns:
            assert f"{delay_ms:.1f} ms late at the 99th percentile" in found[0]
