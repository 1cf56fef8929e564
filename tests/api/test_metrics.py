"""``/metrics`` of servers that really run, read by Prometheus' own parser."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from octavo.api.app import create_app
from octavo.config import ServerConfig
from octavo.engine.async_llm import AsyncLLM
from tests.checkpoints import make_checkpoint
from tests.server_process import ServerProcess

# Of the metrics that vLLM documents and its loggers make, those that this engine has; vLLM's prefix is "vllm:".
# https://docs.vllm.ai/en/latest/usage/metrics.html
VLLM_NAMES = {
    "num_requests_running": "gauge",
    "num_requests_waiting": "gauge",
    "kv_cache_usage_perc": "gauge",
    "cache_config_info": "gauge",
    "prefix_cache_queries": "counter",
    "prefix_cache_hits": "counter",
    "num_preemptions": "counter",
    "prompt_tokens": "counter",
    "prompt_tokens_cached": "counter",
    "generation_tokens": "counter",
    "request_success": "counter",
    "iteration_tokens_total": "histogram",
    "request_prompt_tokens": "histogram",
    "request_prefill_kv_computed_tokens": "histogram",
    "request_generation_tokens": "histogram",
    "request_max_num_generation_tokens": "histogram",
    "request_params_n": "histogram",
    "request_params_max_tokens": "histogram",
    "time_to_first_token_seconds": "histogram",
    "inter_token_latency_seconds": "histogram",
    "request_time_per_output_token_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram",
    "request_queue_time_seconds": "histogram",
    "request_inference_time_seconds": "histogram",
    "request_prefill_time_seconds": "histogram",
    "request_decode_time_seconds": "histogram",
}
OLDER_NAMES_OF_VLLM = {"gpu_cache_usage_perc": "gauge", "time_per_output_token_seconds": "histogram"}
OUR_NAMES = {
    "engine_steps": "counter",
    "engine_restarts": "counter",
    "requests_rejected": "counter",
    "kv_cache_used_blocks": "gauge",
    "kv_cache_total_blocks": "gauge",
    "step_duration_seconds": "histogram",
    "engine_process_cpu_seconds": "counter",
    "engine_process_resident_memory_bytes": "gauge",
    "engine_process_threads": "gauge",
    "host_cpu_count": "gauge",
    "host_memory_total_bytes": "gauge",
    "host_memory_available_bytes": "gauge",
}
COMMON_NAMES = {
    "http_requests": "counter",
    "http_request_duration_seconds": "histogram",
    "process_cpu_seconds": "counter",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_open_fds": "gauge",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "llama", "llama", tokenizer=True, num_hidden_layers=2)


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[ServerProcess]:
    """One sequence at a time, with room in the KV cache for few."""
    settings = {"max_num_seqs": 1, "max_model_len": 256, "kv_cache_memory_bytes": 2**21}
    with ServerProcess(model=str(model), served_model_name=["some/model"], **settings) as running:
        yield running


def scrape(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def with_prefix(prefix: str, *names: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}{name}": kind for each in names for name, kind in each.items()}


def check_complete(families: dict[str, Metric], prefix: str, *names: Mapping[str, str]) -> None:
    expected = with_prefix(prefix, *names) | COMMON_NAMES
    found = {name: family.type for name, family in families.items() if name in expected}
    assert found == expected
    for name in with_prefix(prefix, VLLM_NAMES):
        for sample in families[name].samples:
            assert (sample.labels["model_name"], sample.labels["engine"]) == ("some/model", "0")


def test_a_scrape_has_every_name_with_its_type_and_labels(server: ServerProcess):
    httpx.post(f"{server.url}/v1/completions", json={"prompt": "a", "max_tokens": 2})
    families = scrape(httpx.get(f"{server.url}/metrics").text)
    check_complete(families, "octavo_", VLLM_NAMES, OUR_NAMES)
    assert not families.keys() & with_prefix("octavo_", OLDER_NAMES_OF_VLLM)
    (info,) = families["octavo_cache_config_info"].samples
    assert (info.labels["block_size"], info.labels["enable_prefix_caching"]) == ("16", "True")
    assert int(info.labels["num_gpu_blocks"]) == families["octavo_kv_cache_total_blocks"].samples[0].value > 0


def test_the_prefix_of_vllm_gives_its_names_and_the_older_ones(model: Path):
    settings = {"kv_cache_memory_bytes": 2**24, "metrics_prefix": "vllm:", "api_key": ["k"]}
    with ServerProcess(model=str(model), served_model_name=["some/model"], **settings) as server:
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        http = httpx.Client(base_url=server.url, headers={"authorization": "Bearer k"})
        http.post("/v1/completions", json={"prompt": "a", "max_tokens": 2})
        families = scrape(http.get("/metrics").text)
    check_complete(families, "vllm:", VLLM_NAMES, OUR_NAMES, OLDER_NAMES_OF_VLLM)
    assert not any(name.startswith("octavo") for name in families)


def test_counts_add_up_with_what_clients_were_told(server: ServerProcess):
    names = ["prompt_tokens_total", "prompt_tokens_cached_total", "generation_tokens_total", "request_success_total"]
    names += ["request_prompt_tokens_sum", "request_prefill_kv_computed_tokens_sum", "request_generation_tokens_sum"]
    names += ["request_params_n_sum", "request_params_max_tokens_sum", "e2e_request_latency_seconds_count"]
    names += ["time_to_first_token_seconds_count", "inter_token_latency_seconds_count", "iteration_tokens_total_sum"]
    names += ["request_time_per_output_token_seconds_count", "request_max_num_generation_tokens_sum"]
    before = server.metrics()
    bodies = [{"prompt": list(range(50)), "max_tokens": tokens, "ignore_eos": True} for tokens in (3, 5)]
    bodies.append({"prompt": "abc", "max_tokens": 4, "n": 2, "ignore_eos": True})
    usages = [httpx.post(f"{server.url}/v1/completions", json=body, timeout=60).json()["usage"] for body in bodies]
    after = server.metrics()
    grown = {name: after[f"octavo_{name}"] - before[f"octavo_{name}"] for name in names}
    num_prompt, num_output = (sum(usage[key] for usage in usages) for key in ("prompt_tokens", "completion_tokens"))
    num_cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    assert num_output == 3 + 5 + 2 * 4
    assert num_cached == 48
    num_computed = num_prompt - num_cached + usages[2]["prompt_tokens"]  # too few to be cached: computed for each
    assert grown == {
        "prompt_tokens_total": num_prompt,
        "prompt_tokens_cached_total": num_cached,
        "generation_tokens_total": num_output,
        "request_success_total": 4,
        "request_prompt_tokens_sum": num_prompt,
        "request_prefill_kv_computed_tokens_sum": num_prompt - num_cached,
        "request_generation_tokens_sum": num_output,
        "request_params_n_sum": 4,
        "request_params_max_tokens_sum": 3 + 5 + 4,
        "e2e_request_latency_seconds_count": 3,
        "time_to_first_token_seconds_count": 3,
        "inter_token_latency_seconds_count": num_output - 4,
        "iteration_tokens_total_sum": num_computed + num_output - 4,
        "request_time_per_output_token_seconds_count": 3,
        "request_max_num_generation_tokens_sum": 3 + 5 + 4,
    }


def test_who_waits_for_the_only_place_has_the_queue_time_of_the_one_before(server: ServerProcess):
    body = {"prompt": "Once", "max_tokens": 200, "ignore_eos": True}
    before = server.metrics()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: httpx.post(f"{server.url}/v1/completions", json=body, timeout=120), range(3)))
    after = server.metrics()
    assert [answer.status_code for answer in answers] == [200] * 3

    def grown(name: str) -> float:
        return after[f"octavo_{name}_seconds_sum"] - before[f"octavo_{name}_seconds_sum"]

    # Of three in a row, the second waits for the first and the third for both; all compute alone.
    assert grown("request_queue_time") > 0.5 * grown("request_inference_time")
    phases = grown("request_queue_time") + grown("request_inference_time")
    assert phases == pytest.approx(grown("e2e_request_latency"), rel=1e-6)
    assert grown("request_prefill_time") + grown("request_decode_time") == pytest.approx(
        grown("request_inference_time")
    )


def test_requests_over_http_are_counted_by_route(server: ServerProcess):
    def count(status: str) -> float:
        text = httpx.get(f"{server.url}/metrics").text
        wanted = {"handler": "/v1/completions", "method": "POST", "status": status}
        samples = scrape(text)["http_requests"].samples
        return sum(sample.value for sample in samples if sample.labels == wanted)

    before = count("2xx"), count("4xx")
    httpx.post(f"{server.url}/v1/completions", json={"prompt": "a", "max_tokens": 1})
    httpx.post(f"{server.url}/v1/completions", json={"wrong": "a"})
    assert (count("2xx"), count("4xx")) == (before[0] + 1, before[1] + 1)


@pytest.fixture
def ask_without_engine(model: Path) -> Callable[..., httpx.Response]:
    """Ask a server whose engine was never started."""

    def ask(path: str, **settings: object) -> httpx.Response:
        config = ServerConfig(model=str(model), **settings)  # type: ignore[arg-type]
        return TestClient(create_app(AsyncLLM(config), config, None)).get(path)

    return ask


def test_without_statistics_there_are_the_servers_own_metrics(ask_without_engine: Callable[..., httpx.Response]):
    families = scrape(ask_without_engine("/metrics", disable_log_stats=True).text)
    assert "process_cpu_seconds" in families
    assert "octavo_host_cpu_count" in families
    assert not families.keys() & with_prefix("octavo_", VLLM_NAMES)


def test_without_an_engine_its_process_has_no_metrics(ask_without_engine: Callable[..., httpx.Response]):
    assert "engine_process" not in ask_without_engine("/metrics").text
