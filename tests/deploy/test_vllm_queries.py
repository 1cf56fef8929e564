"""Dashboards and autoscalers made for vLLM work unchanged on a server that names its metrics as vLLM does.

The expressions are those of vLLM's own dashboard (github.com/vllm-project/vllm,
examples/observability/prometheus_grafana/grafana.json, version 8 of the dashboard) and of the KEDA example of its
production stack (github.com/vllm-project/production-stack, docs/source/use_cases/autoscaling-keda.rst).
"""

from __future__ import annotations

import pytest

from tests.deploy.traffic import values

MODEL = '{model_name="octavo-nano"}'
RANGE = "[5m]"  # what Grafana puts in for $__rate_interval
LATENCIES = ["e2e_request_latency_seconds", "inter_token_latency_seconds", "time_to_first_token_seconds"]

QUANTILES = [
    f"histogram_quantile({q}, sum by(le) (rate(vllm:{name}_bucket{MODEL}{RANGE})))"
    for name in LATENCIES
    for q in (0.99, 0.95, 0.9, 0.5)
]
MEANS = [f"rate(vllm:{name}_sum{MODEL}{RANGE})\n/\nrate(vllm:{name}_count{MODEL}{RANGE})" for name in LATENCIES]
THROUGHPUT = [f"rate(vllm:{name}{MODEL}{RANGE})" for name in ("prompt_tokens_total", "generation_tokens_total")]
STATE = [f"vllm:{name}{MODEL}" for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")]
LENGTHS = [
    f"sum by(le) (increase(vllm:{name}_bucket{MODEL}{RANGE}))"
    for name in ("request_prompt_tokens", "request_generation_tokens")
]
FINISH_REASONS = [f"sum by(finished_reason) (increase(vllm:request_success_total{MODEL}{RANGE}))"]
SUMS = [
    f"rate(vllm:{name}_sum{MODEL}{RANGE})"
    for name in (
        "request_queue_time_seconds",
        "request_prefill_time_seconds",
        "request_decode_time_seconds",
        "request_max_num_generation_tokens",
    )
]
KEDA = ["vllm:num_requests_waiting"]
ALL = [*QUANTILES, *MEANS, *THROUGHPUT, *STATE, *LENGTHS, *FINISH_REASONS, *SUMS, *KEDA]


@pytest.mark.parametrize("expression", ALL, ids=[expression.replace("\n", " ") for expression in ALL])
def test_queries_made_for_vllm_are_answered(scraped, expression):
    assert values(scraped.query(expression))
