"""The metrics that an engine shows, read back with Prometheus' own parser."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from octavo.observe.metric_names import is_legal_prefix
from octavo.observe.metrics import FINISH_REASONS, EngineMetrics
from octavo.observe.request_timing import RequestTiming


def samples(metrics: EngineMetrics) -> dict[str, float]:
    """Every sample without labels but the model's and the engine's, by name; ends by ``name/reason``, no buckets."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            assert (sample.labels["model_name"], sample.labels["engine"]) == ("some/model", "0")
            reason = sample.labels.get("finished_reason")
            if not sample.name.endswith("_bucket"):
                found[sample.name.removeprefix("octavo_") + (f"/{reason}" if reason else "")] = sample.value
    return found


def buckets(metrics: EngineMetrics, name: str) -> list[float]:
    """The upper bounds of a histogram, without the last."""
    families = {
        family.name: family for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
    }
    bounds = [float(sample.labels["le"]) for sample in families[name].samples if "le" in sample.labels]
    assert bounds[-1] == float("inf")
    return bounds[:-1]


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


def timing(**known: Any) -> RequestTiming:
    return RequestTiming(arrived_at=100.0, arrived_at_unix=0.0, **known)


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
    metrics.observe_first_token(timing(num_prompt_tokens=7, num_cached_tokens=4, first_token_at=100.25))
    metrics.observe_first_token(timing(num_prompt_tokens=5, first_token_at=100.75))
    found = samples(metrics)
    assert (found["prompt_tokens_total"], found["prompt_tokens_cached_total"]) == (12, 4)
    assert found["time_to_first_token_seconds_count"] == 2
    assert found["time_to_first_token_seconds_sum"] == 1.0


def test_the_end_of_a_request_counts_each_sequence_and_each_phase():
    metrics = EngineMetrics("some/model")
    ended = timing(
        first_scheduled_at=101.0,
        first_token_at=103.0,
        last_token_at=107.0,
        finished_at=107.0,
        num_prompt_tokens=10,
        num_cached_tokens=4,
        num_output_tokens=10,
        n=2,
        max_tokens=50,
    )
    metrics.observe_end(ended, [("length", 7), ("stop", 3)])
    found = samples(metrics)
    sums = {name.removesuffix("_sum"): value for name, value in found.items() if name.endswith("_sum") and value}
    assert sums == {
        "e2e_request_latency_seconds": 7,
        "request_queue_time_seconds": 1,
        "request_prefill_time_seconds": 2,
        "request_decode_time_seconds": 4,
        "request_inference_time_seconds": 6,
        "request_time_per_output_token_seconds": 1,
        "request_prompt_tokens": 10,
        "request_prefill_kv_computed_tokens": 6,
        "request_generation_tokens": 10,
        "request_max_num_generation_tokens": 7,
        "request_params_n": 2,
        "request_params_max_tokens": 50,
    }
    assert found["request_generation_tokens_count"] == 2
    assert (found["request_success_total/length"], found["request_success_total/stop"]) == (1, 1)


def test_phases_that_never_came_are_not_observed():
    metrics = EngineMetrics("some/model")
    metrics.observe_end(timing(finished_at=101.0, num_prompt_tokens=10), [("abort", 0)])
    found = samples(metrics)
    assert found["e2e_request_latency_seconds_count"] == 1
    never = ("request_queue_time_seconds", "request_prefill_time_seconds", "request_prefill_kv_computed_tokens")
    assert [found[f"{name}_count"] for name in never] == [0, 0, 0]


def test_every_way_to_end_is_shown_from_the_start():
    found = samples(EngineMetrics("some/model"))
    assert [found[f"request_success_total/{reason}"] for reason in FINISH_REASONS] == [0, 0, 0]


def test_buckets_for_tokens_end_at_the_models_length():
    metrics = EngineMetrics("some/model")
    metrics.set_max_model_len(2048)
    expected = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]
    for name in ("request_prompt_tokens", "request_generation_tokens", "request_params_max_tokens"):
        assert buckets(metrics, f"octavo_{name}") == expected


def test_the_cache_is_described_by_labels():
    metrics = EngineMetrics("some/model")
    metrics.set_cache_config(block_size=16, enable_prefix_caching=True)
    (family,) = [
        family
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        if family.name == "octavo_cache_config_info"
    ]
    (sample,) = family.samples
    assert sample.value == 1
    assert sample.labels | {"block_size": "16", "enable_prefix_caching": "True"} == sample.labels


def test_a_prefix_begins_every_name():
    for prefix in ("vllm:", "mine_"):
        text = generate_latest(EngineMetrics("some/model", prefix=prefix).registry).decode()
        assert all(family.name.startswith(prefix) for family in text_string_to_metric_families(text))


@pytest.mark.parametrize(
    ("prefix", "is_legal"),
    [("octavo_", True), ("vllm:", True), ("_9", True), ("", False), ("9x", False), ("a-b", False), ("ü", False)],
)
def test_a_prefix_must_be_the_beginning_of_a_legal_name(prefix: str, is_legal: bool):
    assert is_legal_prefix(prefix) == is_legal


def test_two_engines_do_not_share_numbers():
    one, two = EngineMetrics("some/model"), EngineMetrics("some/model")
    one.num_generation_tokens += 3
    one.inter_token_latency.observe(1.0)
    found = samples(two)
    assert (found["generation_tokens_total"], found["inter_token_latency_seconds_count"]) == (0, 0)


def test_it_needs_no_torch():
    program = "import json, sys, octavo.observe.metrics; print(json.dumps(sorted(sys.modules)))"
    assert "torch" not in json.loads(subprocess.check_output([sys.executable, "-c", program]))


def test_speculation_is_counted_by_vllms_names_and_goes_on_after_a_restart():
    metrics = EngineMetrics("some/model")
    set_totals(metrics, 0)
    assert "spec_decode_num_drafts_total" not in samples(metrics)
    state = {"num_running": 0, "num_waiting": 0, "num_used_blocks": 0, "num_blocks": 1}
    state |= {"total_prefix_queries": 0, "total_prefix_hits": 0, "total_preemptions": 0, "total_steps": 0}
    for _ in range(2):  # the second time from an engine that began again
        metrics.set_engine_state(
            **state,
            total_drafts=4,
            total_draft_tokens=8,
            total_accepted_tokens=5,
            total_accepted_per_pos=[3, 2],
        )
        metrics.set_engine_state(**state)
    text = generate_latest(metrics.registry).decode()
    found = samples(metrics)
    assert found["spec_decode_num_drafts_total"] == 8
    assert found["spec_decode_num_draft_tokens_total"] == 16
    assert found["spec_decode_num_accepted_tokens_total"] == 10
    assert 'num_accepted_tokens_per_pos_total{engine="0",model_name="some/model",position="1"} 4.0' in text
