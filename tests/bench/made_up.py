"""Results of load tests that never happened, for tests of what is made of results."""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo.bench.records import BenchResult, RequestRecord
from octavo.bench.summary import Slo, summarize


def made_up_records(
    num_requests: int = 200,
    *,
    seed: int = 0,
    ttft_s: float = 0.1,
    tpot_s: float = 0.02,
    num_output_tokens: int = 16,
    interval_s: float = 0.05,
    failing: int = 0,
) -> list[RequestRecord]:
    """Return requests at equal intervals with noisy latencies around the given ones; the last ``failing`` fail."""
    random = np.random.default_rng(seed)
    records = []
    for index in range(num_requests):
        sent_at = index * interval_s
        if index >= num_requests - failing:
            records.append(
                RequestRecord(
                    index=index,
                    scheduled_at=sent_at,
                    sent_at=sent_at,
                    finished_at=sent_at + 0.3,
                    error="http_503",
                    error_message="the queue is full",
                )
            )
            continue
        first = sent_at + ttft_s * random.lognormal(sigma=0.4)
        gaps = tpot_s * random.lognormal(sigma=0.2, size=num_output_tokens - 1)
        times = [first, *(first + np.cumsum(gaps)).tolist()]
        records.append(
            RequestRecord(
                index=index,
                scheduled_at=sent_at,
                sent_at=sent_at,
                finished_at=times[-1] + 0.001,
                chunk_times=times,
                input_tokens=int(random.integers(50, 150)),
                output_tokens=num_output_tokens,
            )
        )
    return records


def made_up_result(records: list[RequestRecord] | None = None, *, slo: Slo | None = None, **fields: Any) -> BenchResult:
    """Return a result of made-up or given records; ``fields`` replace those of the result."""
    records = made_up_records() if records is None else records
    values: dict[str, Any] = {
        "kind": "serve",
        "created_at": "2026-03-14T15:09:26+00:00",
        "octavo_version": "0.0.0",
        "target": "http://127.0.0.1:8000/v1",
        "model": "tiny-llama",
        "settings": {"dataset_name": "random", "request_rate": 20.0, "num_prompts": len(records)},
        "environment": {"cpu": "a CPU", "cores": 2},
        "summary": summarize(records, slo),
        "records": records,
    }
    return BenchResult(**{**values, **fields})
