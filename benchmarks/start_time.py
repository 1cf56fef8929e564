"""How long a user waits: from ``octavo serve`` to the first answer, and for ``octavo --help`` and ``import octavo``."""

from __future__ import annotations

import argparse
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.environment import describe_environment
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json

GOAL_FIRST_ANSWER_S = 6.0
GOAL_HELP_S = 0.3
_POLL_S = 0.02
_OCTAVO = str(Path(sys.executable).with_name("octavo"))
_COMMANDS = {
    "octavo --help": [_OCTAVO, "--help"],
    "import octavo": [sys.executable, "-c", "import octavo"],
    "python alone": [sys.executable, "-c", "pass"],
}


def measure_start(model: str, timeout_s: float) -> dict[str, float]:
    """Start a server, ask it something as soon as it answers, and end it.

    Returns:
        Seconds after the launch until ``/live`` and ``/health`` answered 200 and until the first chat request was
        answered, and the seconds from SIGTERM to the end of the process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        server = subprocess.Popen(
            [_OCTAVO, "serve", "--model", model, "--port", str(port)], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            times = _wait_for_answers(server, f"http://127.0.0.1:{port}", model, started, timeout_s)
            stopped = time.perf_counter()
            server.send_signal(signal.SIGTERM)
            if server.wait(timeout_s) != 0:
                raise RuntimeError(f"the server ended with exit code {server.returncode}")
            return times | {"stop_s": time.perf_counter() - stopped}
        except (RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()


def _wait_for_answers(
    server: subprocess.Popen[bytes], url: str, model: str, started: float, timeout_s: float
) -> dict[str, float]:
    chat = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    times: dict[str, float] = {}
    with httpx.Client(base_url=url, timeout=timeout_s, trust_env=False) as client:
        steps: dict[str, Callable[[], httpx.Response]] = {
            "live_s": lambda: client.get("/live"),
            "ready_s": lambda: client.get("/health"),
            "first_answer_s": lambda: client.post("/v1/chat/completions", json=chat),
        }
        for name, ask in steps.items():
            while not _answers(ask):
                if server.poll() is not None:
                    raise RuntimeError(f"the server ended with exit code {server.returncode} before it answered")
                if time.perf_counter() - started > timeout_s:
                    raise TimeoutError(f"the server did not answer within {timeout_s} s")
                time.sleep(_POLL_S)
            times[name] = time.perf_counter() - started
    return times


def _answers(ask: Callable[[], httpx.Response]) -> bool:
    """Whether a request is answered; False while the port is closed (503: while the model is loaded)."""
    try:
        response = ask()
    except httpx.TransportError:
        return False
    if response.status_code not in (200, 503):
        raise RuntimeError(f"the server answered {response.status_code}: {response.text}")
    return response.status_code == 200


def measure_command(command: Sequence[str]) -> float:
    """Return the seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start_time", description=__doc__)
    parser.add_argument("--model", default="octavo-nano", help="model to serve (default: the one in the box)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds after which a start has failed")
    add_output_options(parser)
    args = parser.parse_args()
    repeats = 1 if args.quick else args.repeats
    environment = describe_environment()

    starts: list[dict[str, float]] = []
    commands: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for number in range(repeats):
        progress(f"repetition {number + 1} of {repeats}")
        starts.append(measure_start(args.model, args.timeout))
        for name, command in _COMMANDS.items():
            commands[name].append(measure_command(command))

    measured = {
        "octavo serve: /live answers": [start["live_s"] for start in starts],
        "octavo serve: engine ready": [start["ready_s"] for start in starts],
        "octavo serve: first chat answer": [start["first_answer_s"] for start in starts],
        "octavo serve: SIGTERM to exit": [start["stop_s"] for start in starts],
        **commands,
    }
    limits = {"octavo serve: first chat answer": GOAL_FIRST_ANSWER_S, **dict.fromkeys(list(commands)[:2], GOAL_HELP_S)}
    results = [_summary(name, values, limits.get(name)) for name, values in measured.items()]
    rows = [
        [result["what"], *(f"{result[key]:.3f}" for key in ("median_s", "min_s", "max_s")), result["goal_s"] or ""]
        for result in results
    ]
    print(markdown_table(["what", "median, s", "least, s", "most, s", "goal, s"], rows))
    write_json(
        output_path(args, "start_time"),
        {
            "benchmark": "start_time",
            "environment": environment,
            "settings": {"model": args.model, "repeats": repeats},
            "results": results,
        },
    )


def _summary(name: str, values: list[float], goal_s: float | None) -> dict[str, Any]:
    median = statistics.median(values)
    return {
        "what": name,
        "median_s": median,
        "min_s": min(values),
        "max_s": max(values),
        "values_s": values,
        "goal_s": goal_s,
        "met": None if goal_s is None else median <= goal_s,
    }


if __name__ == "__main__":
    main()
