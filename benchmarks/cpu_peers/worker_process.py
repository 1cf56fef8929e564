"""A worker's process, seen from the benchmark."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octavo.engine.standby import engine_environment

_REPOSITORY = Path(__file__).parents[2]
_ANSWER_TIMEOUT_S = 300.0


class WorkerError(RuntimeError):
    """A peer could not do what it was asked to do."""


class WorkerProcess:
    """Calls a worker and waits for its answers.

    Attributes:
        ready_s: from the start of the process until the model was loaded.
        load_s: the part of it that loading took, without Python and its imports.
        version: of the peer.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log
        self.ready_s = self.load_s = 0.0
        self.version = ""

    def call(self, name: str, **arguments: object) -> Any:
        """Return the answer to a call.

        Raises:
            WorkerError: the worker raised, died or did not answer in time.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the worker's process has no pipes")
        try:
            self._process.stdin.write(json.dumps({"call": name, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        if not select.select([self._process.stdout], [], [], _ANSWER_TIMEOUT_S)[0]:
            raise WorkerError(f"no answer within {_ANSWER_TIMEOUT_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(" ".join(answer["error"].split()))
        return answer.get("result", answer)

    def _died(self) -> WorkerError:
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        return WorkerError(f"ended with exit code {self._process.wait()}: {' '.join(last)}")


@contextmanager
def started_worker(module: str, python: Path, threads: int, log: Path, **arguments: object) -> Iterator[WorkerProcess]:
    """Start a worker, load its model, and end it.

    Raises:
        WorkerError: the worker or its model cannot be loaded.
    """
    command = [str(python), "-m", f"benchmarks.cpu_peers.workers.{module}"]
    # This engine runs in a process with settings of its own, when it is served.
    inherited = engine_environment() if module == "octavo" else os.environ
    environment = {**inherited, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(_REPOSITORY)}
    begun = time.perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=_REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    worker = WorkerProcess(process, log)
    try:
        loaded = worker.call("load", threads=threads, **arguments)
        worker.ready_s, worker.load_s = time.perf_counter() - begun, loaded["load_s"]
        worker.version = loaded["version"]
        yield worker
    finally:
        process.kill()
        process.wait()
