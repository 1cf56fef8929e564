"""What speculative decoding brings to a single stream: how much is accepted, and how fast that makes it.

Acceptance is measured on octavo-nano, which repeats texts that it is given. Speed is measured on models of
Qwen3-0.6B's shape. One copies most of its output from the prompt (``copying_model``), and ``ngram`` makes its drafts.
Random weights repeat nothing, so there a scripted proposer, which knows what the model is going to say, stands for
drafts of a given quality: each draft token is made wrong with a given chance.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.copying_model import make_prompt, write_copying_model
from benchmarks.environment import describe_environment
from benchmarks.octavo_generation import OctavoGenerator
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from benchmarks.shapes import QWEN3_0_6B
from octavo import LLM, SamplingParams
from octavo.config.speculative import SpeculativeConfig
from octavo.engine.core import EngineCore
from octavo.engine.request import Request
from octavo.engine.runner import Runner
from octavo.engine.speculation.builder import make_proposer
from octavo.engine.speculation.pacing import Pacer
from octavo.engine.speculation.speculator import Speculator
from octavo.engine.speculation.step_costs import measure_step_costs

GOAL_SPEEDUP = 2.0
PROMPT_LEN = 64
COPIED_LEN = 256
EDITED = (0.0, 0.05, 0.1, 0.2)
WORDS = (
    "river",
    "stone",
    "seven",
    "garden",
    "letter",
    "morning",
    "window",
    "yellow",
    "silver",
    "bread",
    "market",
    "paper",
)


class KnowingProposer:
    """Knows what follows, and errs with a given chance at each token."""

    computes = False

    def __init__(self, continuation: Sequence[int], error_rate: float) -> None:
        self._continuation = continuation
        self._error_rate = error_rate

    def num_behind(self, request: Request) -> int:
        """Nothing is computed."""
        return 0

    def propose(self, requests: Sequence[Request], max_lens: Sequence[int]) -> list[list[int]]:
        """Return what is known to follow, with errors."""
        return [self._guess(request, max_len) for request, max_len in zip(requests, max_lens, strict=True)]

    def forget(self, request: Request) -> None:
        """Nothing is kept."""

    def _guess(self, request: Request, max_len: int) -> list[int]:
        place = request.num_output_tokens
        rng = random.Random(place)
        known = self._continuation[place : place + max_len]
        return [token + 1 if rng.random() < self._error_rate else token for token in known]


def measure_acceptance(method: str, num_tokens: int, num_prompts: int) -> dict[str, Any]:
    """Let octavo-nano repeat texts one after the other, and count.

    Drafts are always as long as they may be: for a model as small as that, they would not be worth while.
    """
    llm = LLM("octavo-nano", max_model_len=512, kv_cache_memory_bytes="64MiB")
    settings = SpeculativeConfig.model_validate({"method": method})
    speculator = Speculator(make_proposer(settings), num_tokens=num_tokens)
    core = llm._core
    if not isinstance(core, EngineCore):
        raise TypeError("the engine does not generate")
    core.scheduler.speculator = speculator
    rng = random.Random(0)
    num_output = 0
    params = SamplingParams(temperature=0, max_tokens=64)
    for _ in range(num_prompts):
        text = " ".join(rng.choices(WORDS, k=12))
        (output,) = llm.chat([{"role": "user", "content": f"Repeat: {text}"}], params, use_tqdm=False)
        num_output += len(output.outputs[0].token_ids)
    stats = core.stats()
    return {
        "method": method,
        "prompts": num_prompts,
        "output_tokens": num_output,
        "drafts": stats.total_drafts,
        "acceptance_rate": stats.total_accepted_tokens / max(stats.total_draft_tokens, 1),
        "tokens_per_step": num_output / stats.total_steps,
    }


def measure_speed(layers: int, dtype: str, num_tokens: int, draft_len: int, rounds: int) -> list[dict[str, Any]]:
    """Time one stream without drafts and with drafts of several qualities, by turns."""
    rates = (0.0, 0.2, 0.5, 1.0)
    with tempfile.TemporaryDirectory() as path:
        replace(QWEN3_0_6B, num_layers=layers).write_config(Path(path), dtype)
        generator = OctavoGenerator(Path(path), max_model_len=512, load_format="dummy", kv_cache_memory_bytes=2**28)
    scheduler, runner = generator.core.scheduler, generator.core.runner
    if not isinstance(runner, Runner):
        raise TypeError("the engine's runner has no model")
    costs = measure_step_costs(runner, block_size=16, max_num_tokens=512)
    rng = random.Random(1)
    prompt = [rng.randrange(1000, 100_000) for _ in range(PROMPT_LEN)]
    scheduler.kv_cache.pool.forget_cached()
    (expected,) = generator.generate([prompt], num_tokens).token_ids
    speeds: dict[str, list[float]] = {}
    accepted: dict[str, float] = {}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for name, rate in [("none", None), *((f"{rate:.0%} wrong", rate) for rate in rates)]:
            scheduler.speculator = None
            if rate is not None:
                scheduler.speculator = Speculator(
                    KnowingProposer(expected, rate), num_tokens=draft_len, pacer=Pacer(costs)
                )
            done = generator.generate([prompt], num_tokens)
            if done.token_ids != [expected]:
                raise AssertionError("tokens with drafts are not those without")
            speeds.setdefault(name, []).append((num_tokens - 1) / done.decode_s)
            if scheduler.speculator is not None:
                counts = scheduler.speculator.counts
                accepted[name] = counts.num_accepted_tokens / max(counts.num_draft_tokens, 1)
    base = statistics.median(speeds["none"])
    return [
        {
            "drafts": name,
            "acceptance_rate": accepted.get(name),
            "tokens_per_second": statistics.median(values),
            "speedup": statistics.median(values) / base,
        }
        for name, values in speeds.items()
    ]


def measure_copying(layers: int, dtype: str, num_tokens: int, draft_len: int, rounds: int) -> list[dict[str, Any]]:
    """Time one stream that copies from its prompt, without drafts and with those of ``ngram``, by turns."""
    with tempfile.TemporaryDirectory() as path:
        successors = write_copying_model(Path(path), replace(QWEN3_0_6B, num_layers=layers), dtype)
        generator = OctavoGenerator(Path(path), max_model_len=1024, kv_cache_memory_bytes=2**28)
    scheduler, runner = generator.core.scheduler, generator.core.runner
    if not isinstance(runner, Runner):
        raise TypeError("the engine's runner has no model")
    costs = measure_step_costs(runner, block_size=16, max_num_tokens=512)
    scheduler.kv_cache.pool.forget_cached()
    settings = SpeculativeConfig.model_validate({"method": "ngram"})
    results = []
    for edited in EDITED:
        speeds: dict[bool, list[float]] = {False: [], True: []}
        num_drafted = num_accepted = 0
        for number in range(rounds):
            progress(f"{edited:.0%} edited, round {number + 1} of {rounds}")
            prompt = make_prompt(successors, COPIED_LEN, edited, random.Random(number))
            outputs = []
            for drafts in (False, True):
                scheduler.speculator = None
                if drafts:
                    scheduler.speculator = Speculator(make_proposer(settings), num_tokens=draft_len, pacer=Pacer(costs))
                done = generator.generate([prompt], num_tokens)
                outputs.append(done.token_ids)
                speeds[drafts].append((num_tokens - 1) / done.decode_s)
                if scheduler.speculator is not None:
                    num_drafted += scheduler.speculator.counts.num_draft_tokens
                    num_accepted += scheduler.speculator.counts.num_accepted_tokens
            if outputs[0] != outputs[1] or outputs[0][0][0] != successors[prompt[-1]]:
                raise AssertionError("the model does not copy, or not the same with drafts")
        without, with_drafts = (statistics.median(speeds[drafts]) for drafts in (False, True))
        results.append(
            {
                "edited": edited,
                "acceptance_rate": num_accepted / max(num_drafted, 1),
                "tokens_per_second_without": without,
                "tokens_per_second": with_drafts,
                "speedup": with_drafts / without,
            }
        )
    return results


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speculative_decoding", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--draft-tokens", type=int, default=5)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    add_output_options(parser)
    args = parser.parse_args()
    layers = QWEN3_0_6B.num_layers
    if args.quick:
        args.rounds, args.tokens, layers = 1, 16, 2
    environment = describe_environment()
    progress("acceptance")
    acceptance = [
        measure_acceptance(method, args.draft_tokens, 3 if args.quick else 20) for method in ("ngram", "suffix")
    ]
    speed = measure_speed(layers, args.dtype, args.tokens, args.draft_tokens, args.rounds)
    copying = measure_copying(layers, args.dtype, 3 * args.tokens, args.draft_tokens, args.rounds)
    print("Qwen3-0.6B's shape, copying from the prompt, ngram, one stream:\n")
    rows = [
        [
            f"{c['edited']:.0%}",
            f"{c['acceptance_rate']:.0%}",
            f"{c['tokens_per_second_without']:.1f}",
            f"{c['tokens_per_second']:.1f}",
            f"{c['speedup']:.2f}",
        ]
        for c in copying
    ]
    print(markdown_table(["of the prompt edited", "accepted", "tokens/s without", "with", "speed-up"], rows))
    print("\noctavo-nano repeats texts of 12 words, one stream, greedy:\n")
    rows = [[a["method"], f"{a['acceptance_rate']:.0%}", f"{a['tokens_per_step']:.2f}"] for a in acceptance]
    print(markdown_table(["method", "draft tokens accepted", "tokens a step"], rows))
    print(f"\nQwen3-0.6B's shape, random {args.dtype} weights, one stream; a script knows the model's output:\n")
    rows = [
        [
            s["drafts"],
            "" if s["acceptance_rate"] is None else f"{s['acceptance_rate']:.0%}",
            f"{s['tokens_per_second']:.1f}",
            f"{s['speedup']:.2f}",
        ]
        for s in speed
    ]
    print(markdown_table(["draft tokens", "accepted", "tokens/s", "speed-up"], rows))
    goals = []
    for goal, value in (
        ("speed-up with drafts that are all right", speed[1]["speedup"]),
        ("speed-up of ngram where a tenth of the prompt is edited", copying[2]["speedup"]),
    ):
        is_met = value >= GOAL_SPEEDUP
        goals.append({"goal": goal, "value": value, "at_least": GOAL_SPEEDUP, "met": is_met})
        print(f"\n{goal}: {value:.2f}, goal {GOAL_SPEEDUP}: {'met' if is_met else 'MISSED'}")
    write_json(
        output_path(args, "speculative_decoding"),
        {
            "benchmark": "speculative_decoding",
            "environment": environment,
            "settings": {
                "rounds": args.rounds,
                "tokens": args.tokens,
                "draft_tokens": args.draft_tokens,
                "dtype": args.dtype,
                "layers": layers,
            },
            "goals": goals,
            "copying": copying,
            "acceptance": acceptance,
            "speed": speed,
        },
    )


if __name__ == "__main__":
    main()
