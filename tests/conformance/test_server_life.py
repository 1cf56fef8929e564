"""What clients and operators see of a server that is full, left, stopped, or told wrong things."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.server_process import ServerProcess

KEY = "the-only-key"
AUTH = {"authorization": f"Bearer {KEY}"}
ENDLESS = {"prompt": "Once", "max_tokens": 900, "ignore_eos": True}
# A single sequence of so small a model may be over before the metrics have told of it.
BUSY = {**ENDLESS, "n": 32}


@pytest.fixture(scope="module")
def small_server(random_model: Path) -> Iterator[ServerProcess]:
    """One sequence at a time, one more may wait, small bodies, and a key."""
    settings = {"max_num_seqs": 1, "max_num_queued_reqs": 1, "max_request_bytes": 10_000, "api_key": [KEY]}
    with ServerProcess(model=str(random_model), kv_cache_memory_bytes=2**24, **settings) as running:
        yield running


def wait_until(condition: Any, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_idle(server: ServerProcess) -> bool:
    metrics = server.metrics()
    names = ("octavo_num_requests_running", "octavo_num_requests_waiting", "octavo_kv_cache_used_blocks")
    return all(metrics[name] == 0 for name in names)


def test_only_probes_are_open_without_the_key(small_server: ServerProcess) -> None:
    def status(path: str) -> int:
        return httpx.get(f"{small_server.url}{path}").status_code

    assert [status(path) for path in ("/health", "/live", "/version")] == [200, 200, 200]
    assert [status(path) for path in ("/metrics", "/v1/models", "/openapi.json", "/nowhere")] == [401] * 4
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{small_server.url}/v1", api_key="wrong").models.list()
    assert openai.OpenAI(base_url=f"{small_server.url}/v1", api_key=KEY).models.list().data
    assert KEY not in small_server.logs


def test_a_body_above_the_limit_is_refused(small_server: ServerProcess) -> None:
    body = json.dumps({"prompt": "x" * 3_000_000}).encode()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    headers = {**AUTH, "content-type": "application/json"}
    for content in (body, pieces()):
        response = httpx.post(f"{small_server.url}/v1/completions", content=content, headers=headers)
        assert response.status_code == 413
        assert "10,000 bytes" in response.json()["error"]["message"]


def test_a_body_that_is_not_declared_as_json_is_refused(small_server: ServerProcess) -> None:
    response = httpx.post(f"{small_server.url}/v1/completions", content=b'{"prompt": "x"}', headers=AUTH)
    assert response.status_code == 415


async def test_a_full_queue_is_503_with_retry_after(small_server: ServerProcess) -> None:
    async with httpx.AsyncClient(base_url=small_server.url, headers=AUTH, timeout=60) as http:
        asked = [asyncio.create_task(http.post("/v1/completions", json=ENDLESS)) for _ in range(6)]
        first, *_ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        refused = first.pop().result()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.to_thread(wait_until, lambda: is_idle(small_server))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["completions", "chat/completions"])
async def test_a_client_that_goes_leaves_nothing_running(server: ServerProcess, route: str, stream: bool) -> None:
    body = {"ignore_eos": True, "max_tokens": 900, "n": 2, "stream": stream}
    body |= {"prompt": ["a", "b"]} if route == "completions" else {"messages": [{"role": "user", "content": "Hi"}]}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:

        async def ask() -> None:
            async with http.stream("POST", f"/v1/{route}", json=body) as response:
                async for _ in response.aiter_lines():
                    pass

        asking = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.to_thread(wait_until, lambda: server.metrics()["octavo_num_requests_running"] > 0)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    await asyncio.to_thread(wait_until, lambda: is_idle(server))


def test_a_dead_engine_is_503_at_once_and_then_restarted(small_server: ServerProcess) -> None:
    events: list[str] = []

    def read() -> None:
        body = {**ENDLESS, "stream": True}
        with httpx.stream(
            "POST", f"{small_server.url}/v1/completions", json=body, headers=AUTH, timeout=60
        ) as response:
            events.extend(line for line in response.iter_lines() if line)

    reading = threading.Thread(target=read)
    reading.start()
    wait_until(lambda: small_server.metrics()["octavo_num_requests_running"] > 0)
    os.kill(_child_of(small_server.pid), signal.SIGKILL)
    wait_until(lambda: small_server.health() == 503, timeout_s=1)
    reading.join(timeout=5)
    assert json.loads(events[-2].removeprefix("data: "))["error"]["type"] == "server_error"
    assert events[-1] == "data: [DONE]"
    assert httpx.get(f"{small_server.url}/live").status_code == 200
    refused = httpx.post(f"{small_server.url}/v1/completions", json=ENDLESS, headers=AUTH)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    small_server.wait_ready()
    answered = httpx.post(
        f"{small_server.url}/v1/completions", json={**ENDLESS, "max_tokens": 2}, headers=AUTH, timeout=60
    )
    assert answered.status_code == 200
    assert is_idle(small_server)


def test_probes_answer_while_the_engine_starts_and_sigterm_then_ends_it(random_model: Path) -> None:
    server = ServerProcess(model=str(random_model), kv_cache_memory_bytes=2**24)
    server.start()
    try:
        wait_until(lambda: server.health() is not None, timeout_s=30)
        if server.health() == 503:
            gated = httpx.get(f"{server.url}/v1/models")
            assert httpx.get(f"{server.url}/live").status_code == 200
            assert gated.status_code in (200, 503)
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
    finally:
        server.stop()


def test_sigterm_lets_running_requests_finish_and_takes_no_new_ones(random_model: Path) -> None:
    with ServerProcess(model=str(random_model), kv_cache_memory_bytes=2**24) as server:
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{server.url}/v1/completions", json=BUSY, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: server.metrics()["octavo_num_requests_running"] > 0)
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.health() == 503)
        assert httpx.get(f"{server.url}/live").status_code == 200
        refused = httpx.post(f"{server.url}/v1/completions", json=ENDLESS)
        assert refused.status_code == 503
        assert "shutting down" in refused.json()["error"]["message"]
        asking.join(timeout=60)
        assert server.wait_exit() == 0
    assert answers[0].status_code == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 32 * 900


def test_what_outlives_the_shutdown_timeout_ends_with_an_error(random_model: Path) -> None:
    with ServerProcess(model=str(random_model), kv_cache_memory_bytes=2**24, shutdown_timeout=0.1) as server:
        events: list[str] = []

        def read() -> None:
            body = {**BUSY, "stream": True}
            with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as response:
                events.extend(line for line in response.iter_lines() if line)

        reading = threading.Thread(target=read)
        reading.start()
        wait_until(lambda: server.metrics()["octavo_num_requests_running"] > 0)
        server.signal(signal.SIGINT)
        assert server.wait_exit() == 0
        reading.join(timeout=5)
    assert "error" in json.loads(events[-2].removeprefix("data: "))
    assert events[-1] == "data: [DONE]"


def test_a_second_signal_ends_at_once(random_model: Path) -> None:
    with ServerProcess(model=str(random_model), kv_cache_memory_bytes=2**24, shutdown_timeout=60) as server:
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{server.url}/v1/completions", json={**ENDLESS, "n": 16}, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: server.metrics()["octavo_num_requests_running"] > 0)
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.health() == 503)
        began_at = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 128 + signal.SIGTERM
        assert time.monotonic() - began_at < 5
        asking.join(timeout=5)
        assert answers[0].status_code == 503
        assert "Traceback" not in server.logs


def test_a_model_that_cannot_be_loaded_is_one_line_and_exit_code_2(random_model: Path) -> None:
    server = ServerProcess(model=str(random_model), kv_cache_memory_bytes=1)
    server.start()
    try:
        assert server.wait_exit() == 2
        assert server.logs.splitlines()[-1].startswith("octavo: error: ")
    finally:
        server.stop()


def _child_of(pid: int) -> int:
    """Return the id of the only child process: the engine."""
    return int(
        subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()[0]
    )
