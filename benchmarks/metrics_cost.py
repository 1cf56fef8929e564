"""What metrics cost: the output processor at full speed, and a served model under load, with and without them.

Both take turns, so that a busy moment of the machine hits both alike. The server with metrics is scraped once a second,
fifteen times as often as Prometheus does by default; that without is not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import math
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.environment import describe_environment
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from octavo.engine.messages import SequenceUpdate, StepEvents
from octavo.engine.output_processor import OutputProcessor
from octavo.engine.request_builder import RequestBuilder
from octavo.engine.sampling_params import RequestOutputKind, SamplingParams
from octavo.models.hub import resolve_model
from octavo.observe.metrics import EngineMetrics
from octavo.text import Tokenizer

MODEL = "octavo-nano"
NUM_SEQUENCES = 256
NUM_CLIENTS = 64
GOAL_LOSS_PERCENT = 1.0
_95_PERCENT = 1.96
_SCRAPE_INTERVAL_S = 1.0
_START_TIMEOUT_S = 120.0
_OCTAVO = str(Path(sys.executable).with_name("octavo"))
WITH, WITHOUT = "with metrics", "without"


def process_tokens(tokenizer: Tokenizer, num_steps: int, seed: int, *, with_metrics: bool) -> float:
    """Return the microseconds a token of an output processor that gets ``num_steps`` tokens of each sequence."""
    rng = random.Random(seed)
    metrics = EngineMetrics("m", max_model_len=4096) if with_metrics else None
    processor = OutputProcessor(tokenizer, metrics=metrics)
    builder = RequestBuilder(tokenizer, vocab_size=tokenizer.vocab_size, max_model_len=4096, seed=seed)
    params = SamplingParams(max_tokens=num_steps, output_kind=RequestOutputKind.DELTA)
    engine_ids = []
    for number in range(NUM_SEQUENCES):
        built = builder.build([1, 2, 3], params, str(number))
        processor.add(built)
        engine_ids.append(built.sequences[0].request_id)
    steps = [
        [SequenceUpdate(engine_id, [rng.randrange(tokenizer.vocab_size)]) for engine_id in engine_ids]
        for _ in range(num_steps)
    ]
    for update in steps[-1]:
        update.finish_reason = "length"
    events = StepEvents(
        admitted=[(engine_id, 0) for engine_id in engine_ids], chunks=[(engine_id, 3) for engine_id in engine_ids]
    )
    gc.collect()
    started = time.perf_counter()
    for number, updates in enumerate(steps):
        now = time.monotonic()
        processor.process(updates, None if number else events, started_at=now)
        if metrics is not None:
            metrics.observe_step(NUM_SEQUENCES, 0.01)
    return (time.perf_counter() - started) / (num_steps * NUM_SEQUENCES) * 1e6


@dataclass(slots=True)
class Rounds:
    """What was measured with or without metrics, one value a round.

    Attributes:
        tokens_per_s: output tokens of all clients together.
        cpu_us_per_token: CPU time of the process that answers HTTP, in microseconds an output token.
    """

    process_us_per_token: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    cpu_us_per_token: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    process_id: int

    def cpu_s(self) -> float:
        """CPU time of the process that answers HTTP, not that of the engine process; in steps of nanoseconds."""
        tasks = Path(f"/proc/{self.process_id}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@contextlib.contextmanager
def running_server(*flags: str) -> Iterator[Server]:
    """Serve the model in the box with some flags while the context is open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        command = [_OCTAVO, "serve", "--model", MODEL, "--port", str(port), "--cpu-threads", "1", *flags]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_ready(process, url)
            yield Server(url, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(f"the server was not ready within {_START_TIMEOUT_S} s")


async def load(server: Server, num_tokens: int, rounds: Rounds, *, scraped: bool) -> None:
    """Let ``NUM_CLIENTS`` clients ask for ``num_tokens`` tokens each, at the same time and without streams.

    Whole answers leave the server the least other work a token, so they show the cost of metrics at its largest.
    """
    body = {"prompt": "Once upon a time", "max_tokens": num_tokens, "ignore_eos": True, "temperature": 0}
    limits = httpx.Limits(max_connections=NUM_CLIENTS + 1)
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=600, limits=limits, trust_env=False) as http,
        _scraping(http) if scraped else contextlib.nullcontext(),
    ):
        cpu_before, started = server.cpu_s(), time.perf_counter()
        answers = await asyncio.gather(*(http.post("/v1/completions", json=body) for _ in range(NUM_CLIENTS)))
        elapsed, cpu = time.perf_counter() - started, server.cpu_s() - cpu_before
    total = sum(answer.raise_for_status().json()["usage"]["completion_tokens"] for answer in answers)
    rounds.tokens_per_s.append(total / elapsed)
    rounds.cpu_us_per_token.append(cpu / total * 1e6)


@contextlib.asynccontextmanager
async def _scraping(http: httpx.AsyncClient) -> AsyncIterator[None]:
    async def scrape() -> None:
        while True:
            (await http.get("/metrics")).raise_for_status()
            await asyncio.sleep(_SCRAPE_INTERVAL_S)

    scraper = asyncio.create_task(scrape())
    try:
        yield
    finally:
        scraper.cancel()
        await asyncio.gather(scraper, return_exceptions=True)


def taking_turns(number: int) -> list[str]:
    """Return who is first in a round: each is as often."""
    return [WITH, WITHOUT] if number % 2 else [WITHOUT, WITH]


def summarize(measured: dict[str, Rounds]) -> list[dict[str, Any]]:
    """Return each measure with its medians, and the median over the rounds of the ratio with to without.

    The interval of that median is the one between order statistics that holds it with 95 % (binomial) confidence.
    """
    measures: list[tuple[str, Callable[[Rounds], list[float]]]] = [
        ("output processor, µs a token", lambda rounds: rounds.process_us_per_token),
        ("served, output tokens/s", lambda rounds: rounds.tokens_per_s),
        ("served, CPU µs a token of the HTTP process", lambda rounds: rounds.cpu_us_per_token),
    ]
    results = []
    for name, values_of in measures:
        with_metrics, without = values_of(measured[WITH]), values_of(measured[WITHOUT])
        ratios = sorted(a / b for a, b in zip(with_metrics, without, strict=True))
        reach = math.ceil(_95_PERCENT * math.sqrt(len(ratios)) / 2)
        middle = (len(ratios) - 1) / 2
        results.append(
            {
                "measure": name,
                "with_metrics": statistics.median(with_metrics),
                "without": statistics.median(without),
                "ratio": statistics.median(ratios),
                "ratio_interval": [
                    ratios[max(math.floor(middle - reach), 0)],
                    ratios[min(math.ceil(middle + reach), len(ratios) - 1)],
                ],
                "with_metrics_values": with_metrics,
                "without_values": without,
            }
        )
    return results


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=120, help="rounds of each")
    parser.add_argument("--tokens", type=int, default=32, help="output tokens of each client in a round")
    add_output_options(parser)
    args = parser.parse_args()
    rounds, num_tokens = (2, 16) if args.quick else (args.rounds, args.tokens)
    environment = describe_environment()
    measured = {WITH: Rounds(), WITHOUT: Rounds()}

    tokenizer = Tokenizer.from_directory(resolve_model(MODEL))
    for number in range(rounds):
        progress(f"output processor, round {number + 1} of {rounds}")
        for name in taking_turns(number):
            us_per_token = process_tokens(tokenizer, num_tokens, number, with_metrics=name == WITH)
            measured[name].process_us_per_token.append(us_per_token)

    with running_server() as with_metrics, running_server("--disable-log-stats") as without:
        servers = {WITH: with_metrics, WITHOUT: without}
        for name, server in servers.items():  # the first requests of a server are slower
            asyncio.run(load(server, num_tokens, Rounds(), scraped=name == WITH))
        for number in range(rounds):
            progress(f"served, round {number + 1} of {rounds}")
            for name in taking_turns(number):
                asyncio.run(load(servers[name], num_tokens, measured[name], scraped=name == WITH))

    results = summarize(measured)
    loss_percent = (1 - results[1]["ratio"]) * 100
    core_percent = (results[2]["with_metrics"] - results[2]["without"]) * 1e-6 * results[1]["without"] * 100
    rows = [
        [
            result["measure"],
            f"{result['with_metrics']:.3f}",
            f"{result['without']:.3f}",
            f"{result['ratio']:.4f}",
            "{:.4f} to {:.4f}".format(*result["ratio_interval"]),
        ]
        for result in results
    ]
    print(markdown_table(["", WITH, WITHOUT, "ratio", "95 % of the ratio"], rows))
    met = loss_percent <= GOAL_LOSS_PERCENT
    print(
        f"\nthroughput lost: {loss_percent:.2f} %, goal at most {GOAL_LOSS_PERCENT} %: {'met' if met else 'MISSED'}; "
        f"CPU time taken: {core_percent:.2f} % of a core, with a scrape every {_SCRAPE_INTERVAL_S:.0f} s"
    )
    write_json(
        output_path(args, "metrics_cost"),
        {
            "benchmark": "metrics_cost",
            "environment": environment,
            "settings": {
                "model": MODEL,
                "rounds": rounds,
                "tokens": num_tokens,
                "num_sequences": NUM_SEQUENCES,
                "num_clients": NUM_CLIENTS,
                "scrape_interval_s": _SCRAPE_INTERVAL_S,
            },
            "goals": [
                {
                    "goal": "percent of served throughput lost",
                    "value": loss_percent,
                    "limit": GOAL_LOSS_PERCENT,
                    "met": met,
                }
            ],
            "percent_of_a_core_taken": core_percent,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
