"""``/v1/requests`` and the timing header of a server that really runs: chunks, cache hits, preemptions."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from octavo.api.app import create_app
from octavo.config import ServerConfig
from octavo.engine.async_llm import AsyncLLM
from tests.checkpoints import make_checkpoint
from tests.server_process import ServerProcess

SECRET_PROMPT = "hortensia"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "llama", "llama", tokenizer=True, num_hidden_layers=2)


@pytest.fixture(scope="module")
def http(model: Path) -> Iterator[httpx.Client]:
    """A server with small steps, and with a KV cache for little more than one sequence of the greatest length."""
    settings = {"max_num_batched_tokens": 32, "max_model_len": 256, "kv_cache_memory_bytes": 20 * 16 * 512}
    with (
        ServerProcess(model=str(model), api_key=["k"], **settings) as server,
        httpx.Client(base_url=server.url, headers={"authorization": "Bearer k"}, timeout=60) as client,
    ):
        yield client


def ask(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/completions", json={"max_tokens": 4, "ignore_eos": True, **body}).raise_for_status()


def timeline_of(http: httpx.Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/v1/requests/{name}/timeline").raise_for_status().json()
    return found


def kinds(timeline: dict[str, Any]) -> list[str]:
    return [event["event"] for event in timeline["events"]]


def test_a_prompt_in_chunks_and_its_second_time_from_the_cache(http: httpx.Client):
    prompt = list(range(100, 180))
    asked_at = time.time()
    first, second = ask(http, prompt=prompt), ask(http, prompt=prompt)
    timelines = [timeline_of(http, answer.json()["id"]) for answer in (first, second)]
    chunks = [
        [event["num_tokens"] for event in timeline["events"] if event["event"] == "prefill_chunk"]
        for timeline in timelines
    ]
    assert chunks == [[32, 32, 16], [16]]
    assert [timeline["num_prefill_chunks"] for timeline in timelines] == [3, 1]
    assert [timeline["num_cached_tokens"] for timeline in timelines] == [0, 64]
    for answer, timeline in zip((first, second), timelines, strict=True):
        assert kinds(timeline)[:2] == ["arrived", "scheduled"]
        assert kinds(timeline)[-3:] == ["first_token", "last_token", "finished"]
        times = [event["at_ms"] for event in timeline["events"]]
        assert times == sorted(times)
        header = answer.headers["x-octavo-timing"]
        assert f"chunks={timeline['num_prefill_chunks']}, preemptions=0" in header
        assert f"total_ms={timeline['total_ms']:.3f}" in header
        started_at = datetime.fromisoformat(timeline["started_at"]).timestamp()
        assert asked_at - 0.1 <= started_at <= time.time()


def test_a_preempted_request_says_so(http: httpx.Client):
    before = float(_metric(http, "octavo_num_preemptions_total"))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        bodies = [{"prompt": [number], "max_tokens": 230} for number in (7, 8)]
        answers = list(pool.map(lambda body: ask(http, **body), bodies))
    timelines = [timeline_of(http, answer.json()["id"]) for answer in answers]
    num_preemptions = sum(timeline["num_preemptions"] for timeline in timelines)
    assert num_preemptions > 0
    assert float(_metric(http, "octavo_num_preemptions_total")) - before == num_preemptions
    preempted = max(timelines, key=lambda timeline: timeline["num_preemptions"])
    at = kinds(preempted).index("preempted")
    assert kinds(preempted)[at + 1 : at + 3] == ["resumed", "prefill_chunk"]
    assert preempted["num_output_tokens"] == 230


def test_a_request_is_found_by_the_id_that_the_client_gave(http: httpx.Client):
    for name in ("mine-1", "with/slash", "/timeline"):
        answer = http.post(
            "/v1/completions", json={"prompt": "a", "max_tokens": 1}, headers={"x-request-id": name}
        ).json()
        assert timeline_of(http, name)["id"] == answer["id"]


def test_a_stream_says_where_its_timeline_is_and_runs_until_it_ends(http: httpx.Client):
    body = {"prompt": SECRET_PROMPT, "max_tokens": 200, "ignore_eos": True, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as stream:
        header = stream.headers["x-octavo-timing"]
        path = header.removeprefix('timeline="').removesuffix('"')
        lines = stream.iter_lines()
        next(lines)
        running = http.get(path).json()
        (listed,) = http.get("/v1/requests").json()["running"]
        for _ in lines:
            pass
    assert header == f'timeline="/v1/requests/{running["id"]}/timeline"'
    assert listed["id"] == running["id"]
    assert listed["num_prompt_tokens"] == running["num_prompt_tokens"] > 0
    finished = http.get(path).json()
    assert (finished["state"], finished["finish_reason"], finished["num_output_tokens"]) == ("finished", "length", 200)


def test_a_chat_has_its_timing_too(http: httpx.Client):
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "ignore_eos": True}
    answer = http.post("/v1/chat/completions", json=body).raise_for_status()
    assert "output_tokens=2" in answer.headers["x-octavo-timing"]
    assert timeline_of(http, answer.json()["id"])["num_output_tokens"] == 2


def test_finished_requests_are_listed_newest_first_up_to_the_limit(http: httpx.Client):
    ids = [ask(http, prompt="a").json()["id"] for _ in range(3)]
    listed = http.get("/v1/requests", params={"limit": 2}).json()
    assert [request["id"] for request in listed["finished"]] == [ids[2], ids[1]]
    assert http.get("/v1/requests", params={"limit": 0}).json()["finished"] == []


def test_what_was_refused_is_not_listed(http: httpx.Client):
    refused = http.post("/v1/completions", json={"prompt": list(range(300))})
    assert refused.status_code == 400
    assert "x-octavo-timing" not in refused.headers
    assert http.get(f"/v1/requests/{refused.headers['x-request-id']}/timeline").status_code == 404


def test_prompts_and_answers_are_never_shown(http: httpx.Client):
    answer = ask(http, prompt=SECRET_PROMPT, max_tokens=20)
    shown = http.get("/v1/requests").text + http.get(f"/v1/requests/{answer.json()['id']}/timeline").text
    assert SECRET_PROMPT not in shown
    assert answer.json()["choices"][0]["text"] not in shown


@pytest.mark.parametrize("limit", ["-1", "1001", "1.5", "", "many", "9" * 5000])
def test_a_wrong_limit_is_refused(http: httpx.Client, limit: str):
    answer = http.get("/v1/requests", params={"limit": limit})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")


def test_an_unknown_request_is_404_in_openais_form(http: httpx.Client):
    answer = http.get("/v1/requests/chatcmpl-none/timeline")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "request_not_found"


@pytest.mark.parametrize("path", ["/v1/requests", "/v1/requests/x/timeline"])
def test_the_key_is_needed(http: httpx.Client, path: str):
    assert httpx.get(f"{http.base_url}{path}").status_code == 401


def test_they_answer_while_the_engine_is_down(model: Path):
    config = ServerConfig(model=str(model))
    client = TestClient(create_app(AsyncLLM(config), config, None))
    assert client.get("/v1/models").status_code == 503
    assert client.get("/v1/requests").json() == {"object": "list", "running": [], "finished": []}
    assert client.get("/v1/requests/x/timeline").status_code == 404


def _metric(http: httpx.Client, name: str) -> str:
    return next(line.split()[-1] for line in http.get("/metrics").text.splitlines() if line.startswith(name))
