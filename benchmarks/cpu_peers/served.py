"""``octavo serve`` from outside: when it is ready, how it streams, and how much memory its processes take."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.cpu_peers.worker_process import WorkerError
from benchmarks.cpu_peers.workers.loop import pss_bytes

_OCTAVO = str(Path(sys.executable).with_name("octavo"))
_START_TIMEOUT_S = 120.0
_REQUEST_TIMEOUT_S = 300.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers.

    Attributes:
        ready_s: from its launch until ``/health`` answered 200.
    """

    url: str
    process: subprocess.Popen[bytes]
    ready_s: float

    def stream(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[list[float]]:
        """Send all prompts at once; return when each prompt's pieces of text came, in seconds."""
        return asyncio.run(self._stream_all(prompts, num_tokens))

    def memory_bytes(self) -> int:
        """Return the memory of the server's processes, pages that they share counted once."""
        return sum(map(pss_bytes, _with_descendants(self.process.pid)))

    async def _stream_all(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[list[float]]:
        limits = httpx.Limits(max_connections=len(prompts))
        async with httpx.AsyncClient(
            base_url=self.url, timeout=_REQUEST_TIMEOUT_S, trust_env=False, limits=limits
        ) as client:
            started = time.perf_counter()
            return await asyncio.gather(*(_stream(client, prompt, num_tokens, started) for prompt in prompts))


async def _stream(client: httpx.AsyncClient, prompt: Sequence[int], num_tokens: int, started: float) -> list[float]:
    body = {
        "model": "model",
        "prompt": list(prompt),
        "max_tokens": num_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    times: list[float] = []
    num_generated = 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != 200:
            raise WorkerError(f"octavo serve answered {response.status_code}: {(await response.aread()).decode()}")
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                now, event = time.perf_counter() - started, json.loads(line[6:])
                if event["choices"]:
                    times.append(now)
                else:
                    num_generated = event["usage"]["completion_tokens"]
    if num_generated != num_tokens:
        raise WorkerError(f"octavo serve sent {num_generated} tokens, not {num_tokens}")
    return times


@contextmanager
def served(model: Path, flags: Sequence[str], threads: int, log: Path) -> Iterator[Server]:
    """Serve a model on a free port and end the server.

    Raises:
        WorkerError: it ended or was not ready in time.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [_OCTAVO, "serve", str(model), "--served-model-name", "model", "--port", str(port)]
    command += ["--cpu-threads", str(threads), "--disable-uvicorn-access-log", *flags]
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_healthy(process, url, log)
        yield Server(url, process, time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    with httpx.Client(base_url=url, trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.get("/health").is_success:
                    return
            except httpx.TransportError:
                pass  # the port is not open yet
            time.sleep(_POLL_S)
    raise WorkerError(f"octavo serve is not ready: {' '.join(log.read_text(errors='replace').splitlines()[-1:])}")


def _with_descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    # A process may start children from any of its threads.
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name != str(pid):
            children += (task / "children").read_text(encoding="ascii").split()
    return [pid, *(found for child in children for found in _with_descendants(int(child)))]
