"""``octavo top``: one frame, live in a real terminal, and what it says when something is wrong."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from octavo.bench.server_view import GpuUse, Latency, RunningRequest, ServerFrame
from octavo.cli.top_screen import render
from tests.bench.served_pages import metrics, serve_pages
from tests.cli.conftest import Ran
from tests.cli.interrupts import hear_ctrl_c
from tests.server_process import free_port

FRAME = ServerFrame(
    url="http://host",
    models=["some/model"],
    version="1.2",
    uptime_s=3725,
    requests_per_s=1.5,
    prompt_tokens_per_s=2000,
    num_running=3,
    num_waiting=1200,
    num_preemptions=0,
    kv_cache_usage=0.5,
    latencies={"ttft": Latency(0.01234, 1.5)},
    cpu_cores=1.5,
    memory_bytes=2**30,
    gpus=[GpuUse("0", 0.5, 2**30, 2**31)],
    requests=[RunningRequest("young", "waiting", 1.0, 5, 0), RunningRequest("old", "running", 61.0, 7, 1234)],
)


def drawn(frame: ServerFrame) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(render(frame))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_one_frame_is_printed(octavo: Callable[..., Ran]) -> None:
    with serve_pages(metrics=metrics(kv_cache_usage_perc=0.25), version='{"version": "1.2"}') as server:
        ran = octavo("top", server.url, "--once", "--interval", "0.1")
    assert (ran.exit_code, ran.errors) == (0, [])
    for part in (server.url, "version 1.2", "running 2", "waiting 1", "25.0 %"):
        assert part in ran.out


def test_one_frame_as_json(octavo: Callable[..., Ran]) -> None:
    with serve_pages(metrics=metrics(prefix="mine_", generation_tokens_total=5)) as server:
        ran = octavo("top", server.url, "--once", "--json", "--interval=0.1")
    frame = json.loads(ran.out)
    assert (frame["num_running"], frame["generation_tokens_per_s"], frame["requests"]) == (2, 0, None)
    assert frame["window_s"] >= 0.1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["ftp://host", "--once"], 2, "ftp://host"),
        (["--json"], 2, "--once"),
        (["--once", "--interval", "0"], 2, "0.1"),
        (["--once", "--interval", "nan"], 2, "nan"),
        ([], 2, "terminal"),
        (["--apikey", "x"], 2, "--api-key"),
    ],
)
def test_wrong_arguments_are_one_line(
    octavo: Callable[..., Ran], arguments: list[str], exit_code: int, said: str
) -> None:
    ran = octavo("top", *arguments)
    assert ran.exit_code == exit_code
    assert len(ran.errors) == 1
    assert said in ran.errors[0]


def test_no_server_is_one_line(octavo: Callable[..., Ran]) -> None:
    ran = octavo("top", f"http://127.0.0.1:{free_port()}", "--once")
    assert ran.exit_code == 1
    assert len(ran.errors) == 1
    assert "refused" in ran.errors[0]


def test_a_server_with_a_key_wants_it(octavo: Callable[..., Ran]) -> None:
    with serve_pages(metrics=metrics()) as server:
        server.key = "right"
        refused = octavo("top", server.url, "--once")
        taken = octavo("top", server.url, "--once", "--interval=0.1", "--api-key", "right")
    assert (refused.exit_code, taken.exit_code) == (2, 0)
    assert "--api-key" in refused.errors[0]
    assert "right" not in taken.out


def test_a_frame_shows_all_that_is_known() -> None:
    text = drawn(FRAME)
    for part in (
        "some/model   version 1.2   up 1 h 2 min",
        "1.5/s   running 3   waiting 1,200   preemptions 0",
        "prompt 2,000.0/s   generated –/s",
        "50.0 %",
        "12.3 ms",
        "1.50 s",
        "1.5 cores   1.0 GiB",
        "50.0 % busy   1.0 GiB of 2.0 GiB",
    ):
        assert part in text
    assert text.index("old") < text.index("young")
    assert "1,234" in text


def test_what_a_server_says_is_neither_markup_nor_a_command_to_the_terminal() -> None:
    hostile = RunningRequest("[bold]\x1b[2Jid\n\x9b1m", "[/]", 1.0)
    text = drawn(ServerFrame(url="[red]u", models=["\x1b]0;title\x07"], num_running=1, requests=[hostile]))
    assert "[red]u" in text
    assert r"[bold]\x1b[2Jid\n\x9b1m" in text
    assert not {"\x1b", "\x9b", "\x07"} & set(text)


def test_many_requests_are_cut() -> None:
    many = [RunningRequest(f"id-{number:02}", "running", float(number)) for number in range(30)]
    text = drawn(ServerFrame(url="u", num_running=30, requests=many))
    assert "and 10 more" in text
    assert "id-29" in text
    assert "id-05" not in text


class Terminal:
    """``octavo top`` in a terminal of its own, and what it wrote there so far."""

    def __init__(self, url: str) -> None:
        self._own, theirs = pty.openpty()
        command = [sys.executable, "-m", "octavo", "top", url, "--interval", "0.1"]
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, preexec_fn=hear_ctrl_c
        )
        os.close(theirs)
        self.text = ""

    def wait_for(self, part: str, timeout_s: float = 30.0) -> None:
        """Read until the terminal has shown a text."""
        deadline = time.monotonic() + timeout_s
        start = len(self.text)
        while part not in self.text[start:]:
            assert time.monotonic() < deadline, f"{part!r} did not come: {self.text[-2000:]!r}"
            if select.select([self._own], [], [], 0.1)[0]:
                self.text += os.read(self._own, 65536).decode(errors="replace")

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


def test_live_it_shows_the_server_says_when_it_goes_and_ends_with_ctrl_c() -> None:
    with serve_pages(metrics=metrics()) as server:
        terminal = Terminal(server.url)
        try:
            terminal.wait_for("running 2")
            server.pages["metrics"] = metrics(num_requests_running=7)
            terminal.wait_for("running 7")
        except BaseException:
            terminal.process.kill()
            raise
    terminal.wait_for("trying again")
    assert terminal.interrupt() == 0
    assert "Traceback" not in terminal.text
