"""``octavo bench serve`` beside guidellm: the same prompts to the same server, taking turns in one run.

Both keep the same number of requests under way and ask for the same number of tokens. What is compared is what each
of them reports: output tokens a second, median time to first token, median time per output token after it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.environment import describe_environment
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from octavo.bench.words import WORDS

PEER = "guidellm==0.8.1"
GOAL = 0.05
# Behind the end of its answer a model makes special tokens. guidellm measures up to the last piece that has text.
_EVERY_TOKEN_HAS_TEXT = {"skip_special_tokens": False}
_OCTAVO = str(Path(sys.executable).with_name("octavo"))
_START_TIMEOUT_S = 120.0
_ROUND_TIMEOUT_S = 600.0
_FIGURES = {
    "output_tokens_per_s": "output throughput, tok/s",
    "ttft_ms": "median TTFT, ms",
    "tpot_ms": "median TPOT, ms",
}


@dataclass(frozen=True, slots=True)
class Load:
    """What both generators do in each round.

    Attributes:
        num_words: of each prompt; a word is about one token.
    """

    num_prompts: int
    concurrency: int
    num_words: int
    output_tokens: int


@contextmanager
def served(model: str, log_path: Path) -> Iterator[str]:
    """Serve a model without a prefix cache, so that each round does the same work; give the URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [_OCTAVO, "serve", model, "--port", str(port), "--no-enable-prefix-caching", "--cpu-threads", "1"]
    with log_path.open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_healthy(server, url, log_path)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass  # the port is not open yet
        time.sleep(0.1)
    raise RuntimeError(f"the server is not ready:\n{log_path.read_text(errors='replace')}")


def write_prompts(path: Path, load: Load, seed: int) -> None:
    """Write prompts of random words, as JSONL that both generators read.

    Answers differ in length, so that requests do not end and begin all at the same moment: then the time
    to the first token would depend on how a generator's first requests happened to fall together.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(load.output_tokens // 2, load.output_tokens * 3 // 2, load.num_prompts, endpoint=True)
    lines = [
        json.dumps({"prompt": " ".join(rng.choice(WORDS, load.num_words)), "output_tokens": int(length)})
        for length in lengths
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_octavo(url: str, prompts: Path, load: Load, directory: Path) -> dict[str, float]:
    """Run ``octavo bench serve`` once."""
    output = directory / "octavo.json"
    _run(
        [
            *[_OCTAVO, "bench", "serve", "--base-url", url, "--dataset-name", "jsonl", "--dataset-path", str(prompts)],
            *["--max-concurrency", str(load.concurrency), "--ignore-eos", "--temperature", "0"],
            *["--extra-body", json.dumps(_EVERY_TOKEN_HAS_TEXT), "--output", str(output)],
        ],
        directory,
    )
    summary = json.loads(output.read_bytes())["summary"]
    if summary["num_failed"]:
        raise RuntimeError(f"{summary['num_failed']} requests of octavo failed: {summary['error_messages']}")
    return {
        "output_tokens_per_s": summary["output_throughput"],
        "ttft_ms": summary["ttft_ms"]["p50"],
        "tpot_ms": summary["tpot_ms"]["p50"],
        "input_tokens": summary["total_input_tokens"],
        "output_tokens": summary["total_output_tokens"],
    }


def measure_guidellm(peer: Path, url: str, prompts: Path, load: Load, model: str, directory: Path) -> dict[str, float]:
    """Run guidellm once. What it calls inter-token latency of a request is what others call TPOT."""
    output = directory / "guidellm.json"
    body = {"temperature": 0, "stream_options": {"continuous_usage_stats": False}, **_EVERY_TOKEN_HAS_TEXT}
    backend = {
        "kind": "openai_http",
        "target": url,
        "model": model,
        "request_format": "/v1/chat/completions",
        "extras": {"body": body},
    }
    mapper = {
        "kind": "generative_column_mapper",
        "column_mappings": {"text_column": "prompt", "output_tokens_count_column": "output_tokens"},
    }
    _run(
        [
            *[str(peer.with_name("guidellm")), "run", "--disable-console", "--backend", json.dumps(backend)],
            *["--data", f"kind=json_file,path={prompts}", "--data-column-mapper", json.dumps(mapper)],
            *["--profile", f"kind=concurrent,streams={load.concurrency}"],
            *["--constraint", f"kind=max_requests,count={load.num_prompts}"],
            *["--output", f"kind=json,path={output}"],
        ],
        directory,
    )
    benchmark = json.loads(output.read_bytes())["benchmarks"][0]
    done = benchmark["requests"]["successful"]
    if len(done) != load.num_prompts:
        raise RuntimeError(f"{load.num_prompts - len(done)} requests of guidellm failed; see {output}")
    return {
        "output_tokens_per_s": benchmark["metrics"]["output_tokens_per_second"]["successful"]["mean"],
        "ttft_ms": statistics.median(request["time_to_first_token_ms"] for request in done),
        "tpot_ms": statistics.median(request["inter_token_latency_ms"] for request in done),
        "input_tokens": sum(request["prompt_tokens"] for request in done),
        "output_tokens": sum(request["output_tokens"] for request in done),
    }


def _run(command: list[str], directory: Path) -> None:
    # One worker process, as here, and no look at the Internet for a tokenizer that is not needed.
    environment = {**os.environ, "GUIDELLM__MAX_WORKER_PROCESSES": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=_ROUND_TIMEOUT_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")


def install_peer(directory: Path) -> Path:
    """Install guidellm into an environment of its own and return its Python."""
    progress(f"installing {PEER}")
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", PEER, "torch"], check=True)
    return python


def compare(load: Load, rounds: int, model: str, peer: Path, directory: Path) -> list[dict[str, Any]]:
    """Let both take turns, the one that begins alternating, after a round that does not count."""
    measured: list[dict[str, Any]] = []
    with served(model, directory / "server.log") as url:
        for number in range(rounds + 1):
            progress(f"round {number} of {rounds}" if number else "warming up")
            prompts = directory / f"prompts_{number}.jsonl"
            write_prompts(prompts, load, seed=number)
            one: dict[str, Any] = {}
            for name in ("octavo", "guidellm") if number % 2 else ("guidellm", "octavo"):
                if name == "octavo":
                    one[name] = measure_octavo(url, prompts, load, directory)
                else:
                    one[name] = measure_guidellm(peer, url, prompts, load, model, directory)
            if number:
                measured.append(one)
    return measured


def summarize(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each figure the medians over the rounds, and the median of the rounds' ratios."""
    results = []
    for figure in _FIGURES:
        ratio = statistics.median(one["octavo"][figure] / one["guidellm"][figure] for one in rounds)
        results.append(
            {
                "figure": figure,
                "octavo": statistics.median(one["octavo"][figure] for one in rounds),
                "guidellm": statistics.median(one["guidellm"][figure] for one in rounds),
                "ratio": ratio,
                "met": abs(ratio - 1) <= GOAL,
            }
        )
    return results


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_generator_agreement", description=__doc__)
    parser.add_argument("--model", default="octavo-nano", help="model to serve (default: the one in the box)")
    parser.add_argument("--peer-python", type=Path, help=f"Python of an environment that has {PEER}; else one is made")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each")
    parser.add_argument("--num-prompts", type=int, default=64, help="requests in a round")
    parser.add_argument("--concurrency", type=int, default=4, help="requests under way")
    parser.add_argument("--words", type=int, default=128, help="words of a prompt")
    parser.add_argument("--output-tokens", type=int, default=64, help="tokens of an answer")
    add_output_options(parser)
    args = parser.parse_args()
    load = Load(
        num_prompts=8 if args.quick else args.num_prompts,
        concurrency=args.concurrency,
        num_words=args.words,
        output_tokens=args.output_tokens,
    )
    environment = describe_environment()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        peer = args.peer_python or install_peer(directory / "peer")
        rounds = compare(load, 1 if args.quick else args.rounds, args.model, peer, directory)
    results = summarize(rounds)
    rows = [
        [
            _FIGURES[result["figure"]],
            *(f"{result[key]:.2f}" for key in ("octavo", "guidellm")),
            f"{result['ratio']:.3f}",
        ]
        for result in results
    ]
    print(markdown_table(["what", "octavo bench", "guidellm", "ratio"], rows))
    write_json(
        output_path(args, "load_generator_agreement"),
        {
            "benchmark": "load_generator_agreement",
            "environment": environment,
            "settings": {"model": args.model, "peer": PEER, "load": asdict(load), "goal": GOAL},
            "results": results,
            "rounds": rounds,
        },
    )


if __name__ == "__main__":
    main()
