from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from octavo.observe.process_metrics import EngineProcessMetrics, HostMetrics


def values(metrics: Iterable[Metric]) -> dict[str, float]:
    return {sample.name: sample.value for metric in metrics for sample in metric.samples}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_a_process_is_seen_as_the_system_counts_it():
    program = (
        "import sys\nheld = bytearray(64 * 2**20)\nsum(range(3_000_000))\nprint('done', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = values(EngineProcessMetrics(lambda: process.pid, prefix="octavo_").collect())
        ps = subprocess.check_output(["ps", "-o", "rss=,nlwp=", "-p", str(process.pid)], text=True).split()
        process.communicate()
    assert found["octavo_engine_process_resident_memory_bytes"] == pytest.approx(int(ps[0]) * 1024, rel=0.1)
    assert found["octavo_engine_process_threads"] == int(ps[1]) == 1
    assert 0 < found["octavo_engine_process_cpu_seconds_total"] < 60


def test_a_name_with_spaces_and_brackets_does_not_confuse(tmp_path: Path):
    (tmp_path / "7").mkdir()
    fields = ["S", *map(str, range(4, 14)), "250", "150", *map(str, range(16, 20)), "3", "0", "22", "23", "10"]
    (tmp_path / "7/stat").write_text(f"7 (python) (x 1) {' '.join(fields)} 25\n")
    found = values(EngineProcessMetrics(lambda: 7, prefix="p_", proc=tmp_path).collect())
    assert found == {
        "p_engine_process_cpu_seconds_total": 400 / os.sysconf("SC_CLK_TCK"),
        "p_engine_process_resident_memory_bytes": 10 * os.sysconf("SC_PAGE_SIZE"),
        "p_engine_process_threads": 3,
    }


@pytest.mark.parametrize("process_id", [None, 7])
def test_a_process_that_is_not_there_has_no_metrics(tmp_path: Path, process_id: int | None):
    assert not list(EngineProcessMetrics(lambda: process_id, prefix="octavo_", proc=tmp_path).collect())


def test_the_machine_has_cpus_and_memory(tmp_path: Path):
    (tmp_path / "meminfo").write_text("MemTotal:       16000 kB\nMemFree:  10 kB\nMemAvailable:    9000 kB\n")
    found = values(HostMetrics(prefix="octavo_", proc=tmp_path).collect())
    assert found == {
        "octavo_host_cpu_count": os.cpu_count(),
        "octavo_host_memory_total_bytes": 16000 * 1024,
        "octavo_host_memory_available_bytes": 9000 * 1024,
    }


def test_a_system_without_proc_has_no_memory_to_show(tmp_path: Path):
    assert set(values(HostMetrics(prefix="octavo_", proc=tmp_path).collect())) == {"octavo_host_cpu_count"}
