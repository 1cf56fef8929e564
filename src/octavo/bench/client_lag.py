"""Whether the load generator itself kept up: what its event loop was late, and what it sent late."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter, process_time

import msgspec
import numpy as np

_INTERVAL_S = 0.01
_MOST_LAG_MS = 10.0
_MOST_SHARE_OF_TTFT = 0.05
_FORGIVEN_MS = 5.0


class ClientLag(msgspec.Struct, kw_only=True):
    """How late the client was, in milliseconds, and how much of one core it used (0 to 1)."""

    loop_delay_p50_ms: float
    loop_delay_p99_ms: float
    loop_delay_max_ms: float
    send_lag_p50_ms: float
    send_lag_p99_ms: float
    send_lag_max_ms: float
    cpu_share: float


class LoopMonitor:
    """Measures how much later than asked the event loop runs what is due; ``watch`` does so until it is cancelled."""

    def __init__(self) -> None:
        self._delays_s: list[float] = []
        self._started_at, self._cpu_started_at = perf_counter(), process_time()

    async def watch(self) -> None:
        """Sleep again and again, and note what each sleep took too long."""
        while True:
            before = perf_counter()
            await asyncio.sleep(_INTERVAL_S)
            self._delays_s.append(max(perf_counter() - before - _INTERVAL_S, 0.0))

    def report(self, send_lags_s: Sequence[float]) -> ClientLag:
        """Return what was measured since the start."""
        loop_p50, loop_p99, loop_max = _percentiles_ms(self._delays_s)
        send_p50, send_p99, send_max = _percentiles_ms(send_lags_s)
        elapsed_s = perf_counter() - self._started_at
        return ClientLag(
            loop_delay_p50_ms=loop_p50,
            loop_delay_p99_ms=loop_p99,
            loop_delay_max_ms=loop_max,
            send_lag_p50_ms=send_p50,
            send_lag_p99_ms=send_p99,
            send_lag_max_ms=send_max,
            cpu_share=(process_time() - self._cpu_started_at) / elapsed_s,
        )


def lag_warnings(lag: ClientLag, median_ttft_ms: float | None) -> list[str]:
    """Return a sentence if the client was so late that its figures are doubtful.

    It was if a percent of what it had to do was late by 10 ms, or by 5 % of the median TTFT. Five milliseconds are
    always forgiven: a system that has other things to do, too, is as late now and then.
    """
    limit_ms = _MOST_LAG_MS
    if median_ttft_ms is not None:
        limit_ms = min(limit_ms, max(median_ttft_ms * _MOST_SHARE_OF_TTFT, _FORGIVEN_MS))
    late = [
        f"{what} {p99:.1f} ms late at the 99th percentile (at most {most:.1f} ms)"
        for what, p99, most in (
            ("its event loop ran", lag.loop_delay_p99_ms, lag.loop_delay_max_ms),
            ("requests were sent", lag.send_lag_p99_ms, lag.send_lag_max_ms),
        )
        if p99 > limit_ms
    ]
    if not late:
        return []
    return [
        f"the load generator did not keep up: {', and '.join(late)}; it used {lag.cpu_share:.0%} of a core. Latencies "
        "may be too high: give it a core of its own, or less to do"
    ]


def _percentiles_ms(seconds: Sequence[float]) -> tuple[float, float, float]:
    if not len(seconds):
        return 0.0, 0.0, 0.0
    p50, p99, most = np.percentile(np.asarray(seconds) * 1e3, (50, 99, 100))
    return float(p50), float(p99), float(most)
