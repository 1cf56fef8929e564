"""The metrics that a server shows, read back with Prometheus' own parser."""

from __future__ import annotations

import json
import subprocess
import sys

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from octavo.observe.metrics import FINISH_REASONS, EngineMetrics

# Of vLLM's documented metrics, those that this engine has; vLLM's prefix is "vllm:".
VLLM_NAMES = {
    "num_requests_running": "gauge",
    "num_requests_waiting": "gauge",
    "kv_cache_usage_perc": "gauge",
    "prefix_cache_queries": "counter",
    "prefix_cache_hits": "counter",
    "num_preemptions": "counter",
    "prompt_tokens": "counter",
    "generation_tokens": "counter",
    "request_success": "counter",
    "time_to_first_token_seconds": "histogram",
    "inter_token_latency_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram",
}


def samples(metrics: EngineMetrics) -> dict[str, float]:
    """Every sample without labels but the model's, by name; ends by ``name/reason``, buckets left out."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            assert sample.labels["model_name"] == "some/model"
            reason = sample.labels.get("finished_reason")
            if not sample.name.endswith(("_bucket", "_created")):
                found[sample.name.removeprefix("octavo_") + (f"/{reason}" if reason else "")] = sample.value
    return found


def set_totals(metrics: EngineMetrics, total: int, *, num_used_blocks: int = 0, num_blocks: int = 100) -> None:
    metrics.set_engine_state(
        num_running=2,
        num_waiting=5,
        num_used_blocks=num_used_blocks,
        num_blocks=num_blocks,
        total_prefix_queries=total,
        total_prefix_hits=total,
        total_preemptions=total,
        total_steps=total,
    )


def test_names_and_types_are_those_of_vllm_with_our_prefix():
    families = {
        family.name: family.type
        for family in text_string_to_metric_families(generate_latest(EngineMetrics("some/model").registry).decode())
    }
    assert {name: families.get(f"octavo_{name}") for name in VLLM_NAMES} == VLLM_NAMES
    assert all(name.startswith("octavo_") for name in families)


def test_gauges_show_the_engines_present_state():
    metrics = EngineMetrics("some/model")
    set_totals(metrics, 0, num_used_blocks=25)
    found = samples(metrics)
    assert (found["num_requests_running"], found["num_requests_waiting"]) == (2, 5)
    assert (found["kv_cache_usage_perc"], found["kv_cache_used_blocks"], found["kv_cache_total_blocks"]) == (
        0.25,
        25,
        100,
    )


def test_an_engine_without_blocks_has_usage_zero():
    metrics = EngineMetrics("some/model")
    set_totals(metrics, 0, num_blocks=0)
    assert samples(metrics)["kv_cache_usage_perc"] == 0


def test_totals_follow_the_engine_and_go_on_after_a_restart():
    metrics = EngineMetrics("some/model")
    seen = []
    for total in (5, 5, 12, 0, 3):  # the engine process is a new one after 12
        set_totals(metrics, total)
        found = samples(metrics)
        names = ("prefix_cache_queries", "prefix_cache_hits", "num_preemptions", "engine_steps")
        assert len({found[f"{name}_total"] for name in names}) == 1
        seen.append(found["engine_steps_total"])
    assert seen == [5, 5, 12, 12, 15]


def test_totals_go_on_when_nothing_was_heard_between_two_engines():
    metrics = EngineMetrics("some/model")
    set_totals(metrics, 12)
    set_totals(metrics, 3)
    assert samples(metrics)["engine_steps_total"] == 15


def test_the_first_token_counts_the_prompt_and_its_latency():
    metrics = EngineMetrics("some/model")
    metrics.observe_first_token(7, 0.25)
    metrics.observe_first_token(5, 0.75)
    found = samples(metrics)
    assert found["prompt_tokens_total"] == 12
    assert found["time_to_first_token_seconds_count"] == 2
    assert found["time_to_first_token_seconds_sum"] == 1.0


def test_every_way_to_end_is_shown_from_the_start():
    metrics = EngineMetrics("some/model")
    metrics.observe_end("length")
    found = samples(metrics)
    assert {reason: found[f"request_success_total/{reason}"] for reason in FINISH_REASONS} == {
        "stop": 0,
        "length": 1,
        "abort": 0,
    }


def test_two_engines_do_not_share_numbers():
    one, two = EngineMetrics("some/model"), EngineMetrics("some/model")
    one.generation_tokens.inc(3)
    assert samples(two)["generation_tokens_total"] == 0


def test_it_needs_no_torch():
    program = "import json, sys, octavo.observe.metrics; print(json.dumps(sorted(sys.modules)))"
    assert "torch" not in json.loads(subprocess.check_output([sys.executable, "-c", program]))
