"""``octavo bench serve`` on the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from octavo.bench.records import read_result
from tests.bench.known_delays import KnownDelays, Schedule
from tests.cli.conftest import Ran
from tests.cli.interrupts import hear_ctrl_c

Octavo = Callable[..., Ran]


@pytest.fixture(scope="module")
def server() -> Iterator[KnownDelays]:
    with KnownDelays() as running:
        yield running


def test_figures_are_printed_and_written(octavo: Octavo, server: KnownDelays, tmp_path: Path) -> None:
    server.play(Schedule(first_s=0.01, errors={"2": 503}))
    output, html = tmp_path / "result.json", tmp_path / "result.html"
    lengths = ["--random-input-len=12", "--random_output_len", "4"]
    ran = octavo(
        *["bench", "serve", "--base-url", server.url, "--concurrency", "2", "--num-prompts", "5", *lengths],
        *["--slo", "ttft:10s", "--output", str(output), "--html", str(html), "--header", "X-A: b", "--warmup", "1"],
    )
    assert ran.exit_code == 0, ran.errors
    assert "known-delays at http://127.0.0.1" in ran.out
    for line in ("4 successful, 1 failed", "TTFT, time to first token", "goodput", "1 x http_503", "failure 2"):
        assert line in ran.out
    result = read_result(output)
    assert result.summary.num_successful == 4
    assert result.settings["input_len"] == 12
    assert result.settings["request_rate"] == "inf"
    assert "</html>" in html.read_text()


def test_exit_code_is_1_if_no_request_succeeds(octavo: Octavo, server: KnownDelays) -> None:
    server.play(Schedule(refused_field="min_tokens"))
    ran = octavo("bench", "serve", "--base-url", server.url, "--num-prompts", "3")
    assert ran.exit_code == 1
    assert "3 x http_400" in ran.out
    assert "--no-ignore-eos leaves ignore_eos and min_tokens out" in ran.out


def test_key_comes_from_the_environment(octavo: Octavo, server: KnownDelays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    server.play(Schedule())
    assert octavo("bench", "serve", "--base-url", f"{server.url}/v1", "--num-prompts", "1").exit_code == 0
    assert server.seen()[0].headers["authorization"] == "bearer key"


def test_interrupt_shows_what_was_done(server: KnownDelays, tmp_path: Path) -> None:
    server.play(Schedule(first_s=0.05))
    output = tmp_path / "result.json"
    command = ["bench", "serve", "--base-url", server.url, "--concurrency", "2", "--duration", "60"]
    process = subprocess.Popen(
        [sys.executable, "-m", "octavo", *command, "--random-input-len", "9", "--output", str(output)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        preexec_fn=hear_ctrl_c,
    )
    while len(server.seen()) < 4:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "the test was interrupted" in out
    result = read_result(output)
    assert result.summary.num_successful >= 4
    assert result.summary.num_failed == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reqest-rate", "3"], "there is no --reqest-rate; did you mean --request-rate?"),
        (["--endpoint", "/v1/embeddings"], "endpoint '/v1/embeddings' is not one of"),
        (["--extra-body", "[1]"], "flag --extra-body must be a JSON object, not [1]"),
        (["--extra-body", "{"], "flag --extra-body is not JSON"),
        (["--header", "oops"], "header 'oops' must be written as 'NAME: VALUE'"),
        (["--output", "/nowhere/x.json"], "/nowhere/x.json cannot be written: there is no directory /nowhere"),
        (["--slo", "ttft:fast"], "needs a time above 0"),
        (["--base-url", "localhost"], "is not a URL of the form"),
        (["--dataset-name", "trace", "--dataset-path", "x", "--request-rate", "1"], "brings its own arrival times"),
    ],
)
def test_wrong_flags_are_one_clear_line(octavo: Octavo, arguments: list[str], message: str) -> None:
    ran = octavo("bench", "serve", *arguments)
    assert ran.exit_code == 2
    assert len(ran.errors) == 1
    assert message in ran.errors[0]


def test_group_lists_its_commands_and_knows_the_nearest(octavo: Octavo) -> None:
    listed = octavo("bench")
    assert listed.exit_code == 0
    for name in ("serve", "sweep", "throughput", "latency", "compare"):
        assert f"  {name} " in listed.out
    assert octavo("bench", "serv").errors == [
        "there is no serv; did you mean serve? (commands: serve, sweep, throughput, latency, compare)"
    ]
