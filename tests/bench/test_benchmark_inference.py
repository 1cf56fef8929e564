"""``scripts/benchmark_inference.py`` as people run it: a process of its own, against a real server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.server_process import ServerProcess, free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_inference.py"


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, *options.pop("flags", []), str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@pytest.fixture(scope="module")
def server():
    with ServerProcess(served_model_name=["tiny"], kv_cache_memory_bytes="64MiB") as process:
        yield process


@pytest.mark.parametrize("suffix", ["", "/v1"])
def test_it_prints_the_figures_of_a_runbook(server, suffix, tmp_path):
    output = tmp_path / "result.json"
    ran = run(
        *("--endpoint", server.url + suffix, "--model", "tiny", "--concurrency", "2", "--requests", "6"),
        *("--input-len", "16", "--output-len", "4", "--output", str(output)),
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    for line in (
        r"Requests: +6 succeeded, 0 failed in [\d.]+ s",
        r"Requests/s: +[\d.]+",
        r"P50 latency: +[\d.]+ ms",
        r"P95 latency: +[\d.]+ ms",
        r"P99 latency: +[\d.]+ ms",
        r"Input tokens/s: +[\d.]+",
        r"Output tokens/s: +[\d.]+",
        rf"GPU memory: +(no GPU metrics at {re.escape(server.url)}/metrics|[\d.]+ .iB at most)",
    ):
        assert re.search(f"^{line}$", ran.stdout, re.MULTILINE), line
    summary = json.loads(output.read_text())["summary"]
    assert (summary["num_successful"], summary["total_output_tokens"], summary["max_concurrency"]) == (6, 24, 2)


def test_a_server_that_is_not_there_is_one_line():
    ran = run("--endpoint", f"http://127.0.0.1:{free_port()}", "--requests", "1")
    assert ran.returncode == 1
    assert ran.stderr.startswith("benchmark_inference: no answer from http://127.0.0.1:")
    assert ran.stderr.count("\n") == 1


def test_wrong_flags_are_refused():
    ran = run("--endpoint", "http://127.0.0.1:1", "--requests", "0")
    assert ran.returncode == 2
    assert "--requests: must be at least 1, not 0" in ran.stderr


def test_it_runs_from_a_checkout_without_an_installed_octavo():
    packages = Path(msgspec.__file__).parents[1]  # with -S its .pth files are not read, so octavo is not among them
    ran = run("--help", flags=["-S"], env={"PYTHONPATH": str(packages)})
    assert ran.returncode == 0, ran.stderr
    assert "--endpoint" in ran.stdout
