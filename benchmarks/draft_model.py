"""What its own draft brings to octavo-nano: how much is accepted, and how fast that makes a single stream.

Both answer held-out questions, one after the other and greedily, without drafts and with them by turns: questions of
every skill that octavo-nano has learned, whose answers are mostly short, and stories. Whole requests are timed, prompts
and text included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.environment import describe_environment
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from octavo import LLM, SamplingParams
from octavo.engine.core import EngineCore
from octavo.engine.speculation.pacing import Pacer
from tools.train_nano.conversations import SKILLS
from tools.train_nano.evaluate import max_tokens, questions
from tools.train_nano.sample import Conversation


def core_of(llm: LLM) -> EngineCore:
    """Return the engine core in this process."""
    if not isinstance(llm._core, EngineCore):
        raise TypeError("the engine does not generate")
    return llm._core


def make_engines(draft_len: int) -> dict[str, LLM]:
    """Return octavo-nano without drafts, with drafts as long as the engine finds worth while, and always as long."""
    settings: dict[str, Any] = {"max_model_len": 2048, "kv_cache_memory_bytes": "64MiB"}
    drafts = {"method": "draft_model", "num_speculative_tokens": draft_len}
    paced = LLM("octavo-nano", speculative_config=drafts, **settings)
    fixed = LLM("octavo-nano", speculative_config=drafts, **settings)
    scheduler = core_of(fixed).scheduler
    if scheduler.speculator is None:
        raise TypeError("the engine makes no drafts")
    scheduler.speculator._pacer = Pacer()
    return {"none": LLM("octavo-nano", **settings), "as long as they pay": paced, f"always {draft_len}": fixed}


def measure(engines: dict[str, LLM], workload: str, asked: Sequence[Conversation], rounds: int) -> list[dict[str, Any]]:
    """Time one stream on each engine, by turns, after a round that does not count."""
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    rows: dict[str, dict[str, Any]] = {}
    expected: list[list[int]] | None = None
    for number in range(rounds + 1):
        progress(f"{workload}: round {number} of {rounds}")
        for name, llm in engines.items():
            core = core_of(llm)
            core.reset_prefix_cache()
            before = core.stats()
            answers, seconds = answer_all(llm, asked)
            stats = core.stats()
            expected = expected or answers
            if answers != expected:
                raise AssertionError("tokens with drafts are not those without")
            num_tokens = sum(map(len, answers))
            num_drafted = stats.total_draft_tokens - before.total_draft_tokens
            num_accepted = stats.total_accepted_tokens - before.total_accepted_tokens
            if number > 0:
                speeds[name].append(num_tokens / seconds)
            rows[name] = {
                "workload": workload,
                "drafts": name,
                "questions": len(asked),
                "output_tokens": num_tokens,
                "draft_tokens": num_drafted,
                "acceptance_rate": num_accepted / num_drafted if num_drafted else None,
                "tokens_per_step": num_tokens / (stats.total_steps - before.total_steps),
            }
    base = statistics.median(speeds["none"])
    return [
        rows[name] | {"tokens_per_second": statistics.median(values), "speedup": statistics.median(values) / base}
        for name, values in speeds.items()
    ]


def answer_all(llm: LLM, asked: Sequence[Conversation]) -> tuple[list[list[int]], float]:
    """Return the tokens of greedy answers, given one after the other, and the seconds that they took."""
    answers = []
    started = time.perf_counter()
    for one in asked:
        params = SamplingParams(temperature=0, max_tokens=max_tokens(one))
        (output,) = llm.chat(one.prompt, params, tools=one.tools or None, use_tqdm=False)
        answers.append(list(output.outputs[0].token_ids))
    return answers, time.perf_counter() - started


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.draft_model", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draft-tokens", type=int, default=5)
    parser.add_argument("--samples", type=int, default=5, help="questions of each skill")
    add_output_options(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.samples = 1, 1
    environment = describe_environment()
    engines = make_engines(args.draft_tokens)
    workloads = {"every skill": questions(SKILLS, args.samples, seed=0)}
    workloads["stories"] = questions(["story"], 2 * args.samples, seed=0)
    measured = [row for name, asked in workloads.items() for row in measure(engines, name, asked, args.rounds)]
    rows = [
        [
            row["workload"],
            row["drafts"],
            "" if row["acceptance_rate"] is None else f"{row['acceptance_rate']:.0%}",
            f"{row['tokens_per_step']:.2f}",
            f"{row['tokens_per_second']:.0f}",
            f"{row['speedup']:.2f}",
        ]
        for row in measured
    ]
    print(
        markdown_table(["questions", "drafts", "draft tokens accepted", "tokens a step", "tokens/s", "speed-up"], rows)
    )
    settings = {"rounds": args.rounds, "draft_tokens": args.draft_tokens, "samples": args.samples}
    write_json(
        output_path(args, "draft_model"),
        {"benchmark": "draft_model", "environment": environment, "settings": settings, "own_draft": measured},
    )


if __name__ == "__main__":
    main()
