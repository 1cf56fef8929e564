"""A server seen from outside: rates over a window, and whatever the server does not tell is left out."""

from __future__ import annotations

import json

import pytest

from octavo.bench.server_view import WINDOW_S, GpuUse, ServerView
from octavo.errors import ConfigError
from tests.bench.served_pages import metrics, serve_pages


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_rates_are_what_counters_grew_by(clock: Clock) -> None:
    with serve_pages(metrics=metrics(prompt_tokens_total=100, generation_tokens_total=50)) as server:
        view = ServerView(server.url, clock=clock)
        first = view.refresh()
        assert (first.prompt_tokens_per_s, first.num_running, first.num_waiting) == (None, 2, 1)
        clock.now += 2
        server.pages["metrics"] = metrics(prompt_tokens_total=300, generation_tokens_total=60)
        frame = view.refresh()
    assert (frame.prompt_tokens_per_s, frame.generation_tokens_per_s, frame.window_s) == (100, 5, 2)


def test_rates_look_back_over_a_window(clock: Clock) -> None:
    with serve_pages() as server:
        view = ServerView(server.url, clock=clock)
        for second in range(31):
            server.pages["metrics"] = metrics(generation_tokens_total=100 * min(second, 25))
            frame = view.refresh()
            clock.now += 1
    assert frame.window_s == WINDOW_S
    assert frame.generation_tokens_per_s == 50  # five of the ten seconds saw tokens


def test_a_server_that_began_again_has_no_negative_rates(clock: Clock) -> None:
    with serve_pages(metrics=metrics(generation_tokens_total=1000, observations=10)) as server:
        view = ServerView(server.url, clock=clock)
        view.refresh()
        clock.now += 1
        server.pages["metrics"] = metrics(generation_tokens_total=7, observations=3)
        frame = view.refresh()
    assert frame.generation_tokens_per_s == 7
    assert frame.latencies["ttft"].p50_s == pytest.approx(0.15)


def test_latencies_are_those_of_the_window_or_else_of_all_time(clock: Clock) -> None:
    with serve_pages(metrics=metrics(observations=0)) as server:
        view = ServerView(server.url, clock=clock)
        assert view.refresh().latencies["ttft"].p50_s is None
        clock.now += 1
        server.pages["metrics"] = metrics(observations=20)
        lately = view.refresh().latencies
        clock.now += 2 * WINDOW_S
        view.refresh()
        clock.now += 1
        idle = view.refresh().latencies
    assert (lately["ttft"].p50_s, lately["ttft"].p95_s) == (pytest.approx(0.15), pytest.approx(0.195))
    assert (lately["ttft"].is_since_start, idle["ttft"].is_since_start) == (False, True)
    assert idle["ttft"].p50_s == pytest.approx(0.15)
    assert lately["itl"].p50_s == pytest.approx(0.15)  # by the name that older versions of vLLM have for it
    assert lately["e2e"].p50_s is None


def test_a_server_without_a_list_of_requests_is_shown_all_the_same() -> None:
    text = metrics(kv_cache_usage_perc=0.5, prefix_cache_queries_total=10, prefix_cache_hits_total=4)
    with serve_pages(metrics=text) as server:
        view = ServerView(server.url)
        frame = view.refresh()
        view.refresh()
    assert server.asked.count("/v1/requests?limit=0") == 1
    assert (frame.problem, frame.requests, frame.version, frame.uptime_s) == (None, None, None, None)
    assert (frame.models, frame.kv_cache_usage, frame.prefix_cache_hit_rate) == (["m"], 0.5, 0.4)


def test_version_uptime_and_process_are_shown_where_told(clock: Clock) -> None:
    process = "process_start_time_seconds 900\nprocess_resident_memory_bytes 1024\nprocess_cpu_seconds_total {}\n"
    process += "vllm:engine_process_resident_memory_bytes 10240\nvllm:engine_process_cpu_seconds_total {}\n"
    process += 'vllm:gpu_utilization_ratio{{gpu="0"}} 0.5\nvllm:gpu_memory_used_bytes{{gpu="0"}} 7\n'
    with serve_pages(metrics=metrics() + process.format(5, 50), version='{"version": "1.2"}') as server:
        view = ServerView(server.url, clock=clock, unix_clock=clock)
        view.refresh()
        clock.now += 2
        server.pages["metrics"] = metrics() + process.format(8, 51)
        frame = view.refresh()
    assert (frame.version, frame.uptime_s, frame.memory_bytes, frame.cpu_cores) == ("1.2", 102, 11264, 2)
    assert frame.gpus == [GpuUse("0", 0.5, 7)]


def test_a_server_that_went_away_is_said_and_found_again(clock: Clock) -> None:
    with serve_pages(metrics=metrics()) as server:
        view = ServerView(server.url, clock=clock)
        assert view.refresh().problem is None
    gone = view.refresh()
    assert "refused" in str(gone.problem)
    assert gone.num_running is None
    with serve_pages(metrics=metrics()) as other:
        assert ServerView(other.url).refresh().problem is None


@pytest.mark.parametrize("page", ["<html>{ not metrics", "process_start_time_seconds 900\n"])
def test_a_server_of_another_kind_is_said(page: str) -> None:
    with serve_pages(metrics=page) as server:
        assert ServerView(server.url).refresh().problem


def test_a_server_without_metrics_is_said() -> None:
    with serve_pages() as server:
        assert "404" in str(ServerView(server.url).refresh().problem)


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_missing_or_wrong_key_is_an_error_of_the_user(key: str | None) -> None:
    with serve_pages(metrics=metrics()) as server:
        server.key = "right"
        with pytest.raises(ConfigError, match="--api-key"):
            ServerView(server.url, key).refresh()
        assert ServerView(server.url, "right").refresh().problem is None


@pytest.mark.parametrize("spelling", ["{host}", "{host}/", "http://{host}/v1", "http://{host}/v1/"])
def test_the_server_may_be_spelled_in_many_ways(spelling: str) -> None:
    with serve_pages(metrics=metrics()) as server:
        url = spelling.format(host=server.url.removeprefix("http://"))
        assert ServerView(url).refresh().problem is None


@pytest.mark.parametrize("url", ["", "ftp://host", "http://", "http://host:port", "http://[::1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        ServerView(url)


def test_running_requests_are_listed() -> None:
    running = [
        {
            "id": "chatcmpl-1",
            "state": "running",
            "age_s": 1.5,
            "num_prompt_tokens": 7,
            "num_output_tokens": 3,
        }
    ]
    with serve_pages(metrics=metrics(), requests=json.dumps({"running": running})) as server:
        (request,) = ServerView(server.url).refresh().requests or []
    assert (request.id, request.state, request.age_s) == ("chatcmpl-1", "running", 1.5)
    assert (request.num_prompt_tokens, request.num_output_tokens) == (7, 3)


@pytest.mark.parametrize("page", ["{", "[]", '{"running": [{"id": 5}]}'])
def test_a_list_of_requests_that_is_none_is_said(page: str) -> None:
    with serve_pages(metrics=metrics(), requests=page) as server:
        assert ServerView(server.url).refresh().problem
