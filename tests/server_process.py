"""A real model server in a process of its own, for tests that talk to it over HTTP."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

_LAUNCH = """
import sys
from octavo.api.server import serve
from octavo.config import ServerConfig
sys.exit(serve(ServerConfig.model_validate_json(sys.argv[1])))
"""


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """``octavo serve`` with the given settings; use it as a context manager.

    Unless the settings say otherwise it listens on a free port and computes in one thread: tests share the machine.

    Attributes:
        url: where it listens, e.g. ``http://127.0.0.1:40123``.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {"port": free_port(), "cpu_threads": 1, **settings}
        self.url = f"http://127.0.0.1:{self.settings['port']}"
        self._log_path = Path(tempfile.mkstemp(prefix="octavo-server-", suffix=".log")[1])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServerProcess:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._log_path.unlink(missing_ok=True)

    @property
    def logs(self) -> str:
        """What the process wrote to standard output and standard error so far."""
        return self._log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Id of the server's process."""
        return self._running().pid

    def start(self) -> None:
        """Start the process without waiting for it."""
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, json.dumps(self.settings)], stdout=log, stderr=subprocess.STDOUT
            )

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until ``/health`` says that requests can be answered."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._running().poll() is not None:
                raise RuntimeError(f"the server ended with exit code {self._running().returncode}:\n{self.logs}")
            if self.health() == 200:
                return
            time.sleep(0.05)
        raise TimeoutError(f"the server was not ready within {timeout_s} s:\n{self.logs}")

    def health(self) -> int | None:
        """Return the status of ``/health``; None if nobody answers."""
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code
        except httpx.TransportError:
            return None

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the server."""
        self._running().send_signal(number)

    def wait_exit(self, timeout_s: float = 30.0) -> int:
        """Wait for the end of the process and return its exit code."""
        return self._running().wait(timeout_s)

    def stop(self, timeout_s: float = 30.0) -> int | None:
        """End the process, by force if it must be; return its exit code, None if it was never started."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def metrics(self) -> dict[str, float]:
        """Return ``/metrics`` as sample name to value, summed over labels."""
        headers = {"authorization": f"Bearer {self.settings['api_key'][0]}"} if self.settings.get("api_key") else {}
        values: dict[str, float] = {}
        for line in httpx.get(f"{self.url}/metrics", headers=headers).text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name.partition("{")[0]] = values.get(name.partition("{")[0], 0.0) + float(value)
        return values

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process
