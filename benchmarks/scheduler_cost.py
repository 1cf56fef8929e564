"""What the scheduler costs a step: ``schedule`` and ``commit`` with the KV cache manager, and no model behind them.

Rounds of all cases take turns, so that a busy moment of the machine hits all of them alike.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.environment import describe_environment
from benchmarks.report import add_output_options, markdown_table, output_path, percentile, progress, write_json
from octavo.config import EngineConfig
from octavo.engine.kv_cache import KVCacheManager
from octavo.engine.messages import EngineRequest
from octavo.engine.request import Request
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.scheduler import Scheduler
from octavo.engine.step import StepPlan, StepResult

NUM_RUNNING = 256
NUM_BLOCKS = 40_000
VOCAB_SIZE = 32_000
EOS_TOKEN_ID = 0
GOAL_MEDIAN_MS = 1.0
GOAL_WAITING_RATIO = 1.2
_WARM_UP_STEPS = 20
_NEVER = 1_000_000
_DEFAULTS = EngineConfig.model_validate({})


@dataclass(frozen=True, slots=True)
class Case:
    """A load on the scheduler.

    Attributes:
        num_waiting: requests that wait behind those that run.
        prompt_lens: shortest and longest prompt; unequal prompts cross block borders in different steps.
        output_lens: shortest and longest output; by default requests run for as long as the measurement does.
        num_shared: tokens that all prompts have in common, for the prefix cache.
        steady: measure only steps in which all running requests decode, and nothing else happens.
    """

    name: str
    num_waiting: int = 0
    prompt_lens: tuple[int, int] = (64, 192)
    output_lens: tuple[int, int] = (_NEVER, _NEVER)
    num_shared: int = 0
    policy: Literal["fcfs", "priority"] = "fcfs"
    steady: bool = True


DECODE = Case("256 decode")
DECODE_WITH_QUEUE = Case("256 decode, 10,000 wait", num_waiting=10_000)
CASES = (
    DECODE,
    DECODE_WITH_QUEUE,
    Case("256 decode, by priority", policy="priority"),
    Case("256 decode, 10,000 wait, by priority", num_waiting=10_000, policy="priority"),
    Case(
        "prefill and decode, 10,000 wait",
        num_waiting=10_000,
        prompt_lens=(256, 768),
        output_lens=(64, 256),
        num_shared=128,
        steady=False,
    ),
)


@dataclass(slots=True)
class Times:
    """Milliseconds of each measured step, and the median of each round."""

    schedule_ms: list[float] = field(default_factory=list)
    commit_ms: list[float] = field(default_factory=list)
    round_medians_ms: list[float] = field(default_factory=list)

    @property
    def step_ms(self) -> list[float]:
        """``schedule`` and ``commit`` together."""
        return [a + b for a, b in zip(self.schedule_ms, self.commit_ms, strict=True)]


class TokenSource:
    """Stands in for the runner: random tokens, never the end of a sequence."""

    def __init__(self, rng: random.Random) -> None:
        self._tokens = [rng.randrange(EOS_TOKEN_ID + 1, VOCAB_SIZE) for _ in range(2**16)]
        self._position = 0

    def execute(self, plan: StepPlan) -> StepResult:
        """Return one token for each sample of the plan."""
        start = self._position % (len(self._tokens) - NUM_RUNNING)
        self._position += len(plan.samples)
        return StepResult(self._tokens[start : start + len(plan.samples)])


def run_round(case: Case, num_steps: int, seed: int, times: Times) -> None:
    """Fill a new scheduler with a case's requests and add the times of ``num_steps`` steps to ``times``."""
    rng = random.Random(seed)
    scheduler = _make_scheduler(case, rng)
    runner = TokenSource(rng)
    gc.collect()
    measured = Times()
    is_full = False
    num_seen = 0
    while len(measured.schedule_ms) < num_steps:
        started = time.perf_counter()
        plan = scheduler.schedule()
        planned = time.perf_counter()
        result = runner.execute(plan)
        executed = time.perf_counter()
        scheduler.commit(plan, result)
        ended = time.perf_counter()
        if case.num_waiting and not len(scheduler.waiting):
            raise RuntimeError(f"case {case.name!r} ran out of waiting requests: measure fewer steps")
        is_full = is_full or len(plan.rows) == NUM_RUNNING
        if not is_full or (case.steady and plan.admissions):
            continue
        num_seen += 1
        if num_seen > _WARM_UP_STEPS:
            measured.schedule_ms.append((planned - started) * 1e3)
            measured.commit_ms.append((ended - executed) * 1e3)
    times.schedule_ms += measured.schedule_ms
    times.commit_ms += measured.commit_ms
    times.round_medians_ms.append(statistics.median(measured.step_ms))


def _make_scheduler(case: Case, rng: random.Random) -> Scheduler:
    scheduler = Scheduler(
        KVCacheManager(NUM_BLOCKS, _DEFAULTS.block_size, enable_prefix_caching=True),
        max_num_seqs=NUM_RUNNING,
        max_num_batched_tokens=_DEFAULTS.step_tokens("cuda"),
        policy=case.policy,
    )
    shared = [rng.randrange(1, VOCAB_SIZE) for _ in range(case.num_shared)]
    for arrival in range(NUM_RUNNING + case.num_waiting):
        prompt = shared + [rng.randrange(1, VOCAB_SIZE) for _ in range(rng.randint(*case.prompt_lens) - len(shared))]
        message = EngineRequest(
            request_id=f"request-{arrival}",
            prompt_token_ids=prompt,
            sampling_params=SamplingParams(),
            max_tokens=rng.randint(*case.output_lens),
            eos_token_ids=[EOS_TOKEN_ID],
            seed=arrival,
            priority=rng.randrange(10) if case.policy == "priority" else 0,
        )
        scheduler.add(Request(message, arrival=arrival))
    return scheduler


def summarize(all_times: dict[str, Times]) -> list[dict[str, Any]]:
    """Return the numbers of each case, and its cost relative to the first case as the median over the rounds."""
    base = all_times[DECODE.name].round_medians_ms
    return [
        {
            "case": name,
            "median_ms": statistics.median(times.step_ms),
            "p99_ms": percentile(times.step_ms, 99),
            "schedule_median_ms": statistics.median(times.schedule_ms),
            "commit_median_ms": statistics.median(times.commit_ms),
            "ratio": statistics.median(a / b for a, b in zip(times.round_medians_ms, base, strict=True)),
            "round_medians_ms": times.round_medians_ms,
            "num_steps": len(times.step_ms),
        }
        for name, times in all_times.items()
    ]


def check_goals(summary: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each goal with the value that was reached."""
    by_name = {case["case"]: case for case in summary}
    return [
        _goal("median ms a step, 256 decode", by_name[DECODE.name]["median_ms"], GOAL_MEDIAN_MS),
        _goal("ratio with 10,000 waiting", by_name[DECODE_WITH_QUEUE.name]["ratio"], GOAL_WAITING_RATIO),
    ]


def _goal(name: str, value: float, limit: float) -> dict[str, Any]:
    return {"goal": name, "value": value, "limit": limit, "met": value <= limit}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduler_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each case")
    parser.add_argument("--steps", type=int, default=500, help="measured steps a round")
    add_output_options(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = 2, 100
    environment = describe_environment()

    all_times = {case.name: Times() for case in CASES}
    for number in range(args.rounds):
        progress(f"round {number + 1} of {args.rounds}")
        for case in CASES:
            run_round(case, args.steps, seed=number, times=all_times[case.name])

    summary = summarize(all_times)
    goals = check_goals(summary)
    rows = [
        [
            case["case"],
            *(f"{case[key]:.3f}" for key in ("median_ms", "p99_ms", "schedule_median_ms", "commit_median_ms")),
            f"{case['ratio']:.2f}",
        ]
        for case in summary
    ]
    print(markdown_table(["load", "step, ms", "step p99, ms", "schedule, ms", "commit, ms", "to first"], rows))
    for goal in goals:
        print(
            f"\n{goal['goal']}: {goal['value']:.3f}, goal at most {goal['limit']}: {'met' if goal['met'] else 'MISSED'}"
        )
    write_json(
        output_path(args, "scheduler_cost"),
        {
            "benchmark": "scheduler_cost",
            "environment": environment,
            "settings": {
                "rounds": args.rounds,
                "steps": args.steps,
                "num_running": NUM_RUNNING,
                "num_blocks": NUM_BLOCKS,
                "block_size": _DEFAULTS.block_size,
                "max_num_batched_tokens": _DEFAULTS.step_tokens("cuda"),
                "cases": [asdict(case) for case in CASES],
            },
            "goals": goals,
            "results": summary,
        },
    )


if __name__ == "__main__":
    main()
