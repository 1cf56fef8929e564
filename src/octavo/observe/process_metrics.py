"""What a server's processes and its machine use, read from ``/proc`` when somebody asks; elsewhere there is nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PROC = Path("/proc")
# Places in /proc/<pid>/stat after the command's name, which is the second field: see proc_pid_stat(5).
_UTIME, _STIME, _NUM_THREADS, _RSS_PAGES = 11, 12, 17, 21


class EngineProcessMetrics(Collector):
    """CPU time, memory and threads of the engine process.

    Args:
        process_id: returns the id of the process, None while there is none.
        proc: where the system tells about processes.
    """

    def __init__(self, process_id: Callable[[], int | None], *, prefix: str, proc: Path = _PROC) -> None:
        self._process_id = process_id
        self._prefix = f"{prefix}engine_process_"
        self._proc = proc

    def collect(self) -> Iterator[Metric]:
        """Yield what the process uses now; nothing while there is none."""
        process_id = self._process_id()
        fields = None if process_id is None else _read(self._proc / str(process_id) / "stat")
        if fields is None:
            return
        values = fields.rpartition(")")[2].split()
        ticks = int(values[_UTIME]) + int(values[_STIME])
        yield CounterMetricFamily(
            f"{self._prefix}cpu_seconds", "CPU time of the engine process.", ticks / os.sysconf("SC_CLK_TCK")
        )
        yield GaugeMetricFamily(
            f"{self._prefix}resident_memory_bytes",
            "Memory that the engine process holds.",
            int(values[_RSS_PAGES]) * os.sysconf("SC_PAGE_SIZE"),
        )
        yield GaugeMetricFamily(f"{self._prefix}threads", "Threads of the engine process.", int(values[_NUM_THREADS]))


class HostMetrics(Collector):
    """CPUs and memory of the machine."""

    def __init__(self, *, prefix: str, proc: Path = _PROC) -> None:
        self._prefix = f"{prefix}host_"
        self._proc = proc

    def collect(self) -> Iterator[Metric]:
        """Yield what the system tells."""
        num_cpus = os.cpu_count()
        if num_cpus is not None:
            yield GaugeMetricFamily(f"{self._prefix}cpu_count", "CPUs of the machine.", num_cpus)
        for line in (_read(self._proc / "meminfo") or "").splitlines():
            name, _, value = line.partition(":")
            kind = {"MemTotal": "total", "MemAvailable": "available"}.get(name)
            if kind is not None:
                yield GaugeMetricFamily(
                    f"{self._prefix}memory_{kind}_bytes",
                    f"Memory of the machine, {kind}.",
                    int(value.split()[0]) * 1024,
                )


def _read(path: Path) -> str | None:
    """Return a file's text; None where the system has no such file, or has it no more."""
    try:
        return path.read_text()
    except OSError:
        return None
