"""What a timed generation gives, whichever engine made it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Generation:
    """One batch, generated.

    Attributes:
        prefill_s: from the call until each prompt of the batch had its first token.
        decode_s: from there to the last token.
        token_ids: what was generated for each prompt.
    """

    prefill_s: float
    decode_s: float
    token_ids: list[list[int]]


class Generator(Protocol):
    """An engine that can be timed."""

    name: str

    def generate(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> Generation:
        """Generate ``num_tokens`` tokens for each prompt, greedily and in one batch; prompts are of equal length."""


def random_prompts(num_prompts: int, length: int, vocab_size: int, seed: int) -> list[list[int]]:
    """Return prompts of random token ids."""
    rng = random.Random(seed)
    return [[rng.randrange(vocab_size) for _ in range(length)] for _ in range(num_prompts)]


def equal_share(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> float:
    """Return the share of tokens before the first difference in each sequence: 1.0 if all are equal."""
    num_equal = 0
    for a, b in zip(first, second, strict=True):
        differences = (index for index, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
        num_equal += next(differences, len(a))
    return num_equal / sum(map(len, first))
