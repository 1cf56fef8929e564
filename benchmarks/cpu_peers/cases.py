"""What is measured: each case takes one engine with one format of weights, and gives figures of one round."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.cpu_peers.variants import Variant
from benchmarks.cpu_peers.worker_process import WorkerProcess
from benchmarks.generation import random_prompts
from benchmarks.shapes import Qwen3Shape

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """Lengths in tokens.

    Attributes:
        prompt_len, num_tokens: of ``decode-*`` and ``http``.
        prefill_len: of ``prefill``.
        prefix_len, turn_len: of ``second-turn``: what both turns share, and what the second adds.
        num_streams: of ``http``.
    """

    prompt_len: int = 128
    num_tokens: int = 64
    prefill_len: int = 512
    prefix_len: int = 1500
    turn_len: int = 16
    num_streams: int = 16

    @property
    def warm_up(self) -> Load:
        """A short load of the same batch sizes, that makes an engine allocate and read all that it needs."""
        return replace(self, prompt_len=8, num_tokens=4, prefill_len=64, prefix_len=64)


QUICK_LOAD = Load(prompt_len=32, num_tokens=8, prefill_len=64, prefix_len=128, num_streams=4)


@dataclass(frozen=True, slots=True)
class Case:
    """A measurement.

    Attributes:
        main: the figure that ratios are made of.
        call: what a worker must be able to do.
        batch_size: sequences that decode together, where that is what is measured.
        is_served: our own engine is asked over HTTP, while the peers compute in the process that asks.
        smaller_is_better: of the main figure.
    """

    name: str
    main: str
    call: str
    batch_size: int = 1
    is_served: bool = False
    smaller_is_better: bool = False


CASES = (
    Case("prefill", "tokens_per_s", "generate"),
    *(Case(f"decode-{size}", "tokens_per_s", "generate", batch_size=size) for size in (1, 8, 16, 32)),
    Case("http", "tokens_per_s", "serve", is_served=True),
    Case("second-turn", "ttft_ratio", "turns", smaller_is_better=True),
    Case("ready", "ready_s", "load", is_served=True, smaller_is_better=True),
    Case("memory", "over_weights_and_kv_mb", "memory", is_served=True, smaller_is_better=True),
)


def choose_cases(names: Sequence[str]) -> list[Case]:
    """Return the cases with these names; ``decode`` is all of decoding.

    Raises:
        ValueError: there is no such case.
    """
    known = {case.name for case in CASES} | {"decode"}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no case is called {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return [case for case in CASES if case.name in names or ("decode" in names and case.name.startswith("decode-"))]


def measure_prefill(worker: WorkerProcess, shape: Qwen3Shape, load: Load) -> Figures:
    """Time the first token of one prompt."""
    prefill_s, _ = worker.call("generate", prompts=_prompts(shape, 1, load.prefill_len), num_tokens=1)
    flops = shape.prefill_flops(1, load.prefill_len)
    return {"tokens_per_s": load.prefill_len / prefill_s, "ttft_s": prefill_s, "gflops": flops / prefill_s / 1e9}


def measure_decode(worker: WorkerProcess, variant: Variant, size: int, shape: Qwen3Shape, load: Load) -> Figures:
    """Time the tokens after the first of a batch."""
    prompts = _prompts(shape, size, load.prompt_len)
    _, decode_s = worker.call("generate", prompts=prompts, num_tokens=load.num_tokens)
    step_s = decode_s / (load.num_tokens - 1)
    context_len = load.prompt_len + load.num_tokens / 2
    num_bytes = variant.weight_bytes(shape) + variant.kv_bytes(shape, round(size * context_len))
    return {
        "tokens_per_s": size / step_s,
        "step_ms": step_s * 1e3,
        "gb_per_s": num_bytes / step_s / 1e9,
        "gflops": shape.decode_flops(size, context_len) / step_s / 1e9,
    }


def measure_serving(
    stream: Callable[[list[list[int]], int], list[list[float]]], shape: Qwen3Shape, load: Load
) -> Figures:
    """Send all streams at once and time their tokens.

    Args:
        stream: takes prompts and a number of tokens, and returns when each prompt's tokens came; tokens that came
            together may count as one.
    """
    times = stream(_prompts(shape, load.num_streams, load.prompt_len), load.num_tokens)
    gaps = [b - a for one in times for a, b in itertools.pairwise(one)]
    itls = [(one[-1] - one[0]) / (load.num_tokens - 1) for one in times]
    return {
        "tokens_per_s": load.num_streams * load.num_tokens / max(one[-1] for one in times),
        "ttft_ms": statistics.mean(one[0] for one in times) * 1e3,
        "itl_ms": statistics.mean(itls) * 1e3,
        "worst_itl_ms": max(gaps) * 1e3,
    }


def measure_second_turn(worker: WorkerProcess, shape: Qwen3Shape, load: Load) -> Figures:
    """Time the first token of two turns of which the second begins with the first."""
    first, more = _prompts(shape, 1, load.prefix_len)[0], _prompts(shape, 1, load.turn_len)[0]
    first_s, second_s = worker.call("turns", first=first, more=more)
    return {"ttft_ratio": second_s / first_s, "first_ttft_s": first_s, "second_ttft_s": second_s}


def memory_figures(pss_bytes: int, weights_bytes: int, kv_bytes: int) -> Figures:
    """Return what a server takes, and how much of it is neither weights nor KV cache."""
    return {
        "over_weights_and_kv_mb": (pss_bytes - weights_bytes - kv_bytes) / 1e6,
        "pss_mb": pss_bytes / 1e6,
        "weights_mb": weights_bytes / 1e6,
        "kv_mb": kv_bytes / 1e6,
    }


def _prompts(shape: Qwen3Shape, num_prompts: int, length: int) -> list[list[int]]:
    """Return new prompts each time: otherwise prefix caches would have them."""
    return random_prompts(num_prompts, length, shape.vocab_size, seed=random.SystemRandom().getrandbits(32))
