"""From the records of requests to the figures that people compare: throughput, latencies, goodput, errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from octavo.bench.records import RequestRecord


class Distribution(msgspec.Struct, kw_only=True):
    """Statistics of a latency, in milliseconds; percentiles are interpolated linearly."""

    count: int
    mean: float
    std: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class Slo(msgspec.Struct, kw_only=True, frozen=True):
    """Service-level objectives of one request, in milliseconds; None is no objective."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    itl_ms: float | None = None
    e2e_ms: float | None = None


class Summary(msgspec.Struct, kw_only=True):
    """Figures of one test. Latencies and tokens count successful requests only.

    Attributes:
        duration_s: from the first request sent to the last one finished.
        request_throughput: successful requests a second.
        input_throughput, output_throughput, total_throughput: tokens a second.
        goodput: successful requests a second that met every objective; None without objectives.
        errors: failed requests by kind.
        ttft_ms, tpot_ms, itl_ms, e2e_ms: None where no request gave a value.
        max_concurrency: most requests under way at one moment.
        error_messages: the first message of each kind of failure.
        gpu_memory_used_bytes: most memory of the server's GPUs that was used during the test; None if it does not say.
    """

    duration_s: float
    num_requests: int
    num_successful: int
    num_failed: int
    total_input_tokens: int
    total_output_tokens: int
    total_cached_tokens: int
    request_throughput: float
    input_throughput: float
    output_throughput: float
    total_throughput: float
    mean_concurrency: float
    max_concurrency: int
    ttft_ms: Distribution | None
    tpot_ms: Distribution | None
    itl_ms: Distribution | None
    e2e_ms: Distribution | None
    slo: Slo | None
    goodput: float | None
    errors: Mapping[str, int]
    error_messages: Mapping[str, str] = {}
    gpu_memory_used_bytes: int | None = None


def summarize(records: Sequence[RequestRecord], slo: Slo | None = None) -> Summary:
    """Compute the figures of a test.

    TTFT is from sending to the first token; TPOT the mean time per output token after the first; ITL each gap between
    two streamed pieces; end-to-end from sending to the end of the answer.
    """
    done = [record for record in records if record.error is None]
    started_at = min((record.sent_at for record in records), default=0.0)
    ended_at = max((record.finished_at for record in records), default=0.0)
    duration = ended_at - started_at
    input_tokens = sum(record.input_tokens for record in done)
    output_tokens = sum(record.output_tokens for record in done)
    return Summary(
        duration_s=duration,
        num_requests=len(records),
        num_successful=len(done),
        num_failed=len(records) - len(done),
        total_input_tokens=input_tokens,
        total_output_tokens=output_tokens,
        total_cached_tokens=sum(record.cached_tokens for record in done),
        request_throughput=_rate(len(done), duration),
        input_throughput=_rate(input_tokens, duration),
        output_throughput=_rate(output_tokens, duration),
        total_throughput=_rate(input_tokens + output_tokens, duration),
        mean_concurrency=_rate(sum(record.e2e_s for record in records), duration),
        max_concurrency=_max_concurrency(records),
        ttft_ms=distribution(record.ttft_s for record in done),
        tpot_ms=distribution(record.tpot_s for record in done),
        itl_ms=distribution(gap for record in done for gap in gaps(record)),
        e2e_ms=distribution(record.e2e_s for record in done),
        slo=slo,
        goodput=_rate(sum(meets(record, slo) for record in done), duration) if slo is not None else None,
        errors=dict(Counter(record.error for record in records if record.error is not None)),
        error_messages=_first_messages(records),
    )


def distribution(seconds: Iterable[float | None]) -> Distribution | None:
    """Return the statistics of some durations in seconds, those that are None left out."""
    values = np.array([value for value in seconds if value is not None]) * 1e3
    if not len(values):
        return None
    p50, p90, p95, p99 = np.percentile(values, (50, 90, 95, 99))
    return Distribution(
        count=len(values),
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(values.min()),
        p50=float(p50),
        p90=float(p90),
        p95=float(p95),
        p99=float(p99),
        max=float(values.max()),
    )


def gaps(record: RequestRecord) -> list[float]:
    """Return the seconds between the streamed pieces of a request."""
    times = record.chunk_times
    return [later - earlier for earlier, later in pairwise(times)]


def meets(record: RequestRecord, slo: Slo) -> bool:
    """Whether a successful request met every objective; a latency that it does not have meets any."""
    measured = (
        (slo.ttft_ms, record.ttft_s),
        (slo.tpot_ms, record.tpot_s),
        (slo.itl_ms, max(gaps(record), default=None)),
        (slo.e2e_ms, record.e2e_s),
    )
    return all(limit is None or value is None or value * 1e3 <= limit for limit, value in measured)


def _first_messages(records: Sequence[RequestRecord]) -> dict[str, str]:
    messages: dict[str, str] = {}
    for record in records:
        if record.error is not None:
            messages.setdefault(record.error, record.error_message)
    return messages


def _rate(amount: float, duration_s: float) -> float:
    return amount / duration_s if duration_s > 0 else 0.0


def _max_concurrency(records: Sequence[RequestRecord]) -> int:
    changes = sorted([(record.finished_at, -1) for record in records] + [(record.sent_at, 1) for record in records])
    most = current = 0
    for _, change in changes:
        current += change
        most = max(most, current)
    return most
