"""What a step costs outside the model: planning, gathering the batch, sampling, committing, and sending the updates.

An engine core with its real scheduler and runner drives a model without layers whose logits are there already. Beside
it, the sampling kernels and their torch references choose tokens from the same logits. All cases take turns, round by
round; a case's time is the median of its best round, since a busy moment of the machine is no cost of a step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import torch
import zmq

from benchmarks.environment import describe_environment, describe_torch
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from octavo.engine.core import EngineCore
from octavo.engine.kv_cache import KVCacheManager
from octavo.engine.messages import EngineRequest
from octavo.engine.runner import Runner
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.scheduler import Scheduler
from octavo.kernels import cpu, reference
from octavo.kernels.cpu import default_num_threads, load_native
from octavo.kernels.sampling_rows import SamplingRows
from octavo.models.config import ModelConfig
from octavo.models.layers.decoder import CausalLM

VOCAB_SIZE = 151_936
BATCHES = (1, 8, 32)
GOALS_MS = {1: 0.15, 32: 0.4}
_BLOCK_SIZE = 16
_PROMPT_LEN = 100
_MAX_MODEL_LEN = 4096
_WARM_UP_STEPS = 20
_GREEDY = SamplingParams(temperature=0, ignore_eos=True)
_LOADS = {
    "greedy": _GREEDY,
    "temperature 0.6, top-k 20, top-p 0.95": SamplingParams(temperature=0.6, top_k=20, top_p=0.95, ignore_eos=True),
    "greedy, 5 logprobs": SamplingParams(temperature=0, logprobs=5, ignore_eos=True),
    "greedy, penalties": SamplingParams(temperature=0, frequency_penalty=0.5, ignore_eos=True),
}
_FILTERS = {
    "greedy": SamplingParams(temperature=0),
    "temperature 1": SamplingParams(),
    "top-k 50": SamplingParams(top_k=50),
    "top-p 0.95": SamplingParams(top_p=0.95),
    "min-p 0.05": SamplingParams(min_p=0.05),
    "temperature 0.6, top-k 20, top-p 0.95": SamplingParams(temperature=0.6, top_k=20, top_p=0.95),
}


class ModelWithoutLayers:
    """What a runner asks of a model; its logits are always the same."""

    config = SimpleNamespace(num_hidden_layers=0)
    num_kv_heads = 1
    head_dim = 1

    def __init__(self, logits: torch.Tensor) -> None:
        self._logits = logits

    def __call__(self, input_ids: torch.Tensor, context: object) -> torch.Tensor:
        """Return one number for each token."""
        return input_ids.view(-1, 1)

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return as many rows of logits as there are tokens."""
        return self._logits[: len(hidden)]


def make_logits(num_rows: int) -> torch.Tensor:
    """Return logits like those of a language model: a wide bulk, and some dozen tokens that stand out of it."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_rows, VOCAB_SIZE, generator=generator) * 2.5
    likely = torch.randint(0, VOCAB_SIZE, (num_rows, 60), generator=generator)
    return logits.scatter_(1, likely, torch.rand(num_rows, 60, generator=generator) * 14 + 8)


@contextmanager
def connected_sockets() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """Two sockets as an engine process has them: to push outputs into, and to pull them from."""
    with tempfile.TemporaryDirectory() as directory, zmq.Context() as context:
        receiver, sender = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        address = f"ipc://{Path(directory) / 'outputs'}"
        receiver.bind(address)
        sender.connect(address)
        yield sender, receiver
        sender.close(linger=0)
        receiver.close(linger=0)


def make_core(batch: int, params: SamplingParams, logits: torch.Tensor) -> EngineCore:
    """Return an engine core with ``batch`` requests that run longer than any measurement."""
    num_blocks = batch * _MAX_MODEL_LEN // _BLOCK_SIZE
    runner = Runner(
        cast(CausalLM, ModelWithoutLayers(logits)),
        num_blocks=num_blocks,
        block_size=_BLOCK_SIZE,
        max_num_seqs=batch,
        max_model_len=_MAX_MODEL_LEN,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    kv_cache = KVCacheManager(num_blocks, _BLOCK_SIZE, enable_prefix_caching=True)
    scheduler = Scheduler(kv_cache, max_num_seqs=batch, max_num_batched_tokens=8192)
    config = cast(ModelConfig, SimpleNamespace(rope=SimpleNamespace(rope_type="default")))
    core = EngineCore(scheduler, runner, config)
    for index in range(batch):
        core.add(
            EngineRequest(
                request_id=f"cmpl-0123456789abcdef-{index}/0",
                prompt_token_ids=[index, *range(_PROMPT_LEN - 1)],
                sampling_params=params,
                max_tokens=_MAX_MODEL_LEN - _PROMPT_LEN,
                eos_token_ids=[0],
                seed=index,
            )
        )
    return core


def time_steps(batch: int, params: SamplingParams, logits: torch.Tensor, num_steps: int) -> list[float]:
    """Return milliseconds of decode steps, each with the encoding and sending of its updates."""
    core = make_core(batch, params, logits.clone())
    times = []
    with connected_sockets() as (sender, receiver):
        for number in range(_WARM_UP_STEPS + num_steps):
            started = time.perf_counter()
            sender.send(msgspec.msgpack.encode(core.step()))
            ended = time.perf_counter()
            receiver.recv()
            if number >= _WARM_UP_STEPS:
                times.append((ended - started) * 1e3)
    return times


@dataclass(frozen=True, slots=True)
class Chooser:
    """One way to choose tokens."""

    name: str
    sample: Callable[[torch.Tensor, SamplingRows], torch.Tensor]


CHOOSERS = (Chooser("native", cpu.sample_tokens), Chooser("torch", reference.sample_tokens))


def sampling_rows(params: SamplingParams, batch: int) -> SamplingRows:
    """Return rows that are all sampled alike."""
    return SamplingRows(
        temperature=torch.full((batch,), float(params.temperature)),
        top_k=torch.full((batch,), params.top_k),
        top_p=torch.full((batch,), params.top_p),
        min_p=torch.full((batch,), params.min_p),
        seeds=torch.arange(batch),
        positions=torch.zeros(batch, dtype=torch.int64),
        all_greedy=params.is_greedy,
        max_top_k=params.top_k,
        any_top_p=params.top_p < 1,
        any_min_p=params.min_p > 0,
    )


@torch.inference_mode()
def time_sampling(logits: torch.Tensor, params: SamplingParams, chooser: Chooser, num_calls: int) -> list[float]:
    """Return milliseconds of choosing a batch of tokens."""
    rows = sampling_rows(params, len(logits))
    times = []
    for number in range(num_calls + 1):
        rows = replace(rows, positions=rows.positions + 1)
        started = time.perf_counter()
        chooser.sample(logits, rows)
        if number:
            times.append((time.perf_counter() - started) * 1e3)
    return times


def measure_steps(num_rounds: int, num_steps: int) -> list[dict[str, Any]]:
    """Time steps of every load and batch."""
    medians: dict[tuple[str, int], list[float]] = {(load, batch): [] for load in _LOADS for batch in BATCHES}
    logits = {batch: make_logits(batch) for batch in BATCHES}
    for number in range(num_rounds):
        progress(f"steps: round {number + 1} of {num_rounds}")
        for (load, batch), of_case in medians.items():
            of_case.append(statistics.median(time_steps(batch, _LOADS[load], logits[batch], num_steps)))
    return [
        {"load": load, "batch": batch, "step_ms": min(of_case), "round_medians_ms": of_case}
        | ({"goal_ms": GOALS_MS[batch]} if load == "greedy" and batch in GOALS_MS else {})
        for (load, batch), of_case in medians.items()
    ]


def measure_sampling(num_rounds: int, num_calls: int) -> list[dict[str, Any]]:
    """Time every way to choose tokens, with every filter and batch."""
    cases = [(name, batch, chooser) for name in _FILTERS for batch in BATCHES for chooser in CHOOSERS]
    medians: dict[tuple[str, int, str], list[float]] = {}
    logits = {batch: make_logits(batch) for batch in BATCHES}
    for number in range(num_rounds):
        progress(f"sampling: round {number + 1} of {num_rounds}")
        for name, batch, chooser in cases:
            times = time_sampling(logits[batch], _FILTERS[name], chooser, num_calls)
            medians.setdefault((name, batch, chooser.name), []).append(statistics.median(times))
    return [
        {
            "filters": name,
            "batch": batch,
            **{f"{chooser.name}_ms": min(medians[name, batch, chooser.name]) for chooser in CHOOSERS},
            "round_medians_ms": {chooser.name: medians[name, batch, chooser.name] for chooser in CHOOSERS},
        }
        for name in _FILTERS
        for batch in BATCHES
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each case")
    parser.add_argument("--steps", type=int, default=60, help="measured steps a round")
    parser.add_argument("--calls", type=int, default=3, help="measured calls a round of each way to choose tokens")
    add_output_options(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps, args.calls = 1, 30, 1
    environment = describe_environment() | {"torch": describe_torch()}
    load_native().set_num_threads(default_num_threads())

    steps = measure_steps(args.rounds, args.steps)
    rows = [[step["load"], step["batch"], f"{step['step_ms']:.3f}", _verdict(step)] for step in steps]
    print(markdown_table(["load", "batch", "step, ms", "goal, ms"], rows))
    sampling = measure_sampling(args.rounds, args.calls)
    rows = [
        [
            case["filters"],
            case["batch"],
            *(f"{case[key]:.3f}" for key in ("native_ms", "torch_ms")),
            f"{case['torch_ms'] / case['native_ms']:.0f}",
        ]
        for case in sampling
    ]
    print("\n" + markdown_table(["sampling", "batch", "native, ms", "torch, ms", "ratio"], rows))
    write_json(
        output_path(args, "step_overhead"),
        {
            "benchmark": "step_overhead",
            "environment": environment,
            "settings": {"vocab_size": VOCAB_SIZE, "rounds": args.rounds, "steps": args.steps, "calls": args.calls},
            "steps": steps,
            "sampling": sampling,
        },
    )


def _verdict(step: dict[str, Any]) -> str:
    goal = step.get("goal_ms")
    return "" if goal is None else f"{goal}: {'met' if step['step_ms'] <= goal else 'MISSED'}"


if __name__ == "__main__":
    main()
