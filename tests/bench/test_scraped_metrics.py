"""Metrics read back from Prometheus' text, and quantiles as PromQL estimates them."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from octavo.bench.scraped_metrics import bucket_increase, histogram_quantile, increase, num_observations, read_metrics
from tests.deploy.prometheus_process import program

INF = math.inf
# Three observations up to 0.1, seven more up to 0.5, and so on: cumulative, as Prometheus has them.
BUCKETS = {0.1: 3, 0.5: 10, 1.0: 10, 5.0: 18, INF: 20}
CASES: list[tuple[float, Mapping[float, float], float]] = [
    (0.0, BUCKETS, 0.0),
    (0.15, BUCKETS, 0.1),  # rank 3: the end of the first bucket
    (0.075, BUCKETS, 0.05),  # rank 1.5 of 3: halfway from zero
    (0.5, BUCKETS, 0.5),  # rank 10: the end of the second bucket, not of the empty third
    (0.325, BUCKETS, 0.3),  # rank 6.5: halfway through the second
    (0.7, BUCKETS, 3.0),  # rank 14: halfway through the fourth, whose start is the bound of the empty one
    (0.9, BUCKETS, 5.0),
    (0.95, BUCKETS, 5.0),  # in the last one: the bound before
    (1.0, BUCKETS, 5.0),
    (0.5, {-1.0: 4, 1.0: 8, INF: 8}, -1.0),  # a first bucket that does not begin at zero
    (0.75, {-1.0: 4, 1.0: 8, INF: 8}, 0.0),
    (0.5, {1.0: 10, 2.0: 5, INF: 10}, 0.5),  # a decrease is taken away
    (0.5, {1.0: 0, INF: 4}, 1.0),
    (0.0, {1.0: 0, INF: 4}, math.nan),  # nothing divided by nothing, as there
    (0.5, {1.0: 0, INF: 0}, math.nan),
    (0.5, {1.0: 4, 2.0: 8}, math.nan),  # no bucket up to infinity
    (0.5, {INF: 8}, math.nan),
    (0.5, {}, math.nan),
    (-0.1, BUCKETS, -INF),
    (1.1, BUCKETS, INF),
    (math.nan, BUCKETS, math.nan),
]


@pytest.mark.parametrize(("quantile", "buckets", "expected"), CASES)
def test_a_quantile_is_that_of_promql(quantile: float, buckets: Mapping[float, float], expected: float) -> None:
    assert histogram_quantile(quantile, buckets) == pytest.approx(expected, nan_ok=True)


def test_prometheus_itself_says_the_same(tmp_path: Path) -> None:
    promtool = program("promtool")
    series, checks = [], []
    for number, (quantile, buckets, expected) in enumerate(CASES):
        for bound, count in buckets.items():
            le = "+Inf" if bound == INF else str(bound)
            series.append(f"      - {{series: 'h_bucket{{case=\"{number}\",le=\"{le}\"}}', values: '{count}'}}")
        estimate = f'histogram_quantile({_promql(quantile)}, h_bucket{{case="{number}"}})'
        if math.isnan(expected):
            agrees = f"{estimate} != {estimate}"
        elif math.isinf(expected):
            agrees = f"{estimate} == {_promql(expected)}"
        else:
            agrees = f"abs({estimate} - {expected}) < 1e-9"
        if buckets:  # without a sample there is nothing to estimate there
            checks.append(
                f"      - {{expr: 'count({agrees})', eval_time: 0, exp_samples: [{{labels: '{{}}', value: 1}}]}}"
            )
    lines = ["tests:", "  - interval: 1m", "    input_series:", *series, "    promql_expr_test:", *checks]
    (tmp_path / "quantiles.yml").write_text("\n".join(lines) + "\n")
    done = subprocess.run([promtool, "test", "rules", "quantiles.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _promql(number: float) -> str:
    return str(number).replace("inf", "Inf").replace("nan", "NaN")


@given(
    st.lists(st.floats(0.001, 99), min_size=1, max_size=50),
    st.lists(st.floats(0.01, 100), min_size=1, max_size=10, unique=True),
    st.floats(0, 1),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(
    observations: list[float], bounds: list[float], quantile: float
) -> None:
    registry = CollectorRegistry()
    histogram = Histogram("h", "…", buckets=sorted(bounds), registry=registry)
    for observation in observations:
        histogram.observe(observation)
    found = read_metrics(generate_latest(registry).decode(), 0.0).buckets("h")
    assert found is not None
    assert num_observations(found) == len(observations)
    estimate = histogram_quantile(quantile, found)
    if math.isnan(estimate):
        assert quantile == 0
        return
    true = sorted(observations)[max(0, math.ceil(quantile * len(observations) - 1e-9) - 1)]
    above = [bound for bound in sorted(bounds) if bound >= true]
    assert estimate <= (above[0] if above else max(bounds)) + 1e-9
    if quantile > 0:
        assert estimate >= max([0.0, *(bound for bound in bounds if bound < true)]) - 1e-9


@pytest.mark.parametrize(
    ("old", "new", "grown"), [(5, 7, 2), (5, 5, 0), (7, 3, 3), (None, 3, 3), (5, None, None), (None, None, None)]
)
def test_a_counter_that_is_smaller_than_before_began_again(
    old: float | None, new: float | None, grown: float | None
) -> None:
    assert increase(old, new) == grown


def test_a_histogram_that_is_smaller_than_before_began_again() -> None:
    old, new = {1.0: 5.0, INF: 8.0}, {1.0: 6.0, INF: 9.0}
    assert bucket_increase(old, new) == {1.0: 1, INF: 1}
    assert bucket_increase(new, old) == old
    assert bucket_increase(None, new) == new
    assert bucket_increase({2.0: 1.0, INF: 1.0}, new) == new


VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="some/model"} 3.0
vllm:num_requests_running{engine="1",model_name="some/model"} 1.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="some/model"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="some/model"} 0.25
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="some/model"} 100.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_sum{engine="0",model_name="some/model"} 1.5
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="some/model"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="some/model"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.001",model_name="some/model"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="+Inf",model_name="some/model"} 5.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="some/model"} 2.0
process_start_time_seconds 1.7e9
"""


@pytest.mark.parametrize("prefix", ["vllm:", "octavo_", "mine_", ""])
def test_any_prefix_is_found_and_engines_are_taken_together(prefix: str) -> None:
    scrape = read_metrics(VLLM.replace("vllm:", prefix), 7.0)
    assert scrape.prefix == prefix
    assert scrape.value("num_requests_running") == 4
    assert scrape.mean("kv_cache_usage_perc") == 0.375
    assert scrape.value("unknown", "prompt_tokens_total") == 100
    assert scrape.value("unknown") is None
    assert scrape.value("process_start_time_seconds") == 1.7e9
    assert scrape.buckets("time_to_first_token_seconds") == {0.001: 1, INF: 7}
    assert scrape.label_values("model_name") == ["some/model"]


def test_what_is_no_metrics_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (its words are the library's)
        read_metrics("<html>not { found</html>", 0.0)
