"""What happens to clients, to the server and to the processes when something is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.server_process import ServerProcess

LONG = {"model": "m", "prompt": "x", "max_tokens": 900, "ignore_eos": True}


def child_of(pid: int) -> int:
    """Return the id of the engine process that a server started."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def wait_until(condition, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def process_is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


@pytest.fixture(scope="module")
def server(random_model: Path):
    with ServerProcess(model=str(random_model), served_model_name=["m"], kv_cache_memory_bytes=2**24) as running:
        yield running


def test_a_killed_engine_is_unhealthy_at_once_ends_streams_with_an_error_and_comes_back(server: ServerProcess) -> None:
    with httpx.stream("POST", f"{server.url}/v1/completions", json={**LONG, "stream": True}, timeout=30) as response:
        lines = response.iter_lines()
        next(lines)
        os.kill(child_of(server.pid), signal.SIGKILL)
        killed_at = time.monotonic()
        wait_until(lambda: server.health() == 503, timeout_s=1)
        rest = [line for line in lines if line.startswith("data: ")]
        assert time.monotonic() - killed_at < 2
    last = json.loads(rest[-1].removeprefix("data: ")) if rest[-1] != "data: [DONE]" else json.loads(rest[-2][6:])
    assert "SIGKILL" in last["error"]["message"]
    assert "SIGKILL" in server.logs.strip().splitlines()[-1]
    assert httpx.get(f"{server.url}/live").status_code == 200
    server.wait_ready()
    answer = httpx.post(f"{server.url}/v1/completions", json={**LONG, "max_tokens": 3}, timeout=30)
    assert answer.status_code == 200
    assert server.metrics()["octavo_engine_restarts_total"] >= 1


def test_a_request_to_a_dead_engine_is_refused_with_the_cause(server: ServerProcess) -> None:
    os.kill(child_of(server.pid), signal.SIGKILL)
    wait_until(lambda: server.health() == 503, timeout_s=1)
    answer = httpx.post(f"{server.url}/v1/completions", json=LONG, timeout=30)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert answer.json()["error"]["message"]
    server.wait_ready()


def test_the_engine_ends_when_its_server_is_killed(random_model: Path) -> None:
    with ServerProcess(model=str(random_model), kv_cache_memory_bytes=2**24) as server:
        engine = child_of(server.pid)
        server.signal(signal.SIGKILL)
        server.wait_exit()
        wait_until(lambda: process_is_gone(engine), timeout_s=5)
