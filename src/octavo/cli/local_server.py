"""A model server that lives as long as a command needs it: ``octavo serve`` as a child on a free port."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO

import httpx

from octavo.errors import ConfigError, OctavoError

_HOST = "127.0.0.1"
_POLL_INTERVAL_S = 0.05
_STOP_TIMEOUT_S = 10.0
_EXIT_REFUSED = 2
_OWN_PREFIX = re.compile(r"^octavo( serve)?: (error: )?")


@dataclass(frozen=True, slots=True)
class LocalServer:
    """Where the child listens, and the key that only we have."""

    url: str
    api_key: str


@contextmanager
def local_server(arguments: Sequence[str]) -> Iterator[LocalServer]:
    """Start ``octavo serve`` with the given arguments, wait until it is ready, and end it afterwards.

    Raises:
        ConfigError: the server refused its settings or its model; the message is its own.
        OctavoError: the server ended for another reason; the message has the end of its log.
    """
    server = LocalServer(f"http://{_HOST}:{_free_port()}", secrets.token_urlsafe(16))
    port = server.url.rpartition(":")[2]
    command = [sys.executable, "-m", "octavo", "serve", *arguments]
    command += [f"--host={_HOST}", f"--port={port}", "--log-level=warning", "--shutdown-timeout=1"]
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as log, _ended_by_signals():
        # A session of its own: Ctrl-C in the terminal stops an answer, not the server.
        child = subprocess.Popen(
            command,
            env={**os.environ, "OCTAVO_API_KEY": server.api_key},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_until_ready(child, server.url, log)
            yield server
        finally:
            _stop(child)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: IO[str]) -> None:
    with httpx.Client(trust_env=False) as client:
        while child.poll() is None:
            try:
                if client.get(f"{url}/health").is_success:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            time.sleep(_POLL_INTERVAL_S)
    log.seek(0)
    said = [line.strip() for line in log if line.strip()] or ["it said nothing"]
    if child.returncode == _EXIT_REFUSED:
        raise ConfigError("\n".join(_OWN_PREFIX.sub("", line) for line in said))
    raise OctavoError(f"the server ended with exit code {child.returncode} before it was ready: {said[-1]}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process through its ``finally`` blocks, so that the child is not left behind."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
