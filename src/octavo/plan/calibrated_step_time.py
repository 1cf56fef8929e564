"""Step times by a formula whose numbers were fitted to measured steps of one model on one machine.

Costs that do not grow linearly are interpolated between knots: a matrix product on a CPU between 1 and 32 rows, or
attention to short and to long contexts. The rest is linear. How the numbers are found is the subject of
``octavo.bench.step_time_fit``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octavo.plan.step_time import StepShape


@dataclass(frozen=True, slots=True)
class Curve:
    """A function that is linear between its knots; beyond the last it goes on with the last slope.

    Attributes:
        knots: where the values were fitted, ascending, at least two.
        seconds: the value at each knot.
    """

    knots: tuple[int, ...]
    seconds: tuple[float, ...]

    def at(self, number: float) -> float:
        """Return the interpolated seconds; below the first knot its value, and never less than 0."""
        if number <= self.knots[0]:
            return self.seconds[0]
        left, right, share = bracket(self.knots, number)
        value = self.seconds[left] + share * (self.seconds[right] - self.seconds[left])
        return max(value, self.seconds[-1]) if number > self.knots[-1] else value


@dataclass(frozen=True, slots=True)
class CalibratedStepTime:
    """A ``StepTimeModel`` with fitted numbers, all in seconds and none negative.

    Attributes:
        tokens: cost of computing so many tokens, and of any step at all.
        samples: cost of the logits and the choice of so many tokens; 0 for none.
        contexts: cost of each sequence, by the mean length of the sequences.
        spreads: on top for each sequence, by the same, in steps whose ``context_spread`` is 1.
        per_prefill_seq_s: on top for each sequence that computes more than one token.
        per_attention_pair_s: each pair of query and key.
    """

    tokens: Curve
    samples: Curve
    contexts: Curve
    spreads: Curve
    per_prefill_seq_s: float
    per_attention_pair_s: float

    def step_seconds(self, step: StepShape) -> float:
        """Return the seconds that a step takes, scheduling and sampling included."""
        mean_context = step.num_context_tokens / step.num_seqs
        per_seq_s = self.contexts.at(mean_context)
        if step.context_spread:
            per_seq_s += step.context_spread * self.spreads.at(mean_context)
        return (
            self.tokens.at(step.num_tokens)
            + self.samples.at(step.num_samples)
            + per_seq_s * step.num_seqs
            + self.per_prefill_seq_s * step.num_prefill_seqs
            + self.per_attention_pair_s * step.num_attention_pairs
        )


def bracket(knots: Sequence[int], number: float) -> tuple[int, int, float]:
    """Return the two neighbouring knots between which a number lies, by index, and how far it is from left to right.

    Beyond the ends it is the outermost pair, with a share below 0 or above 1.
    """
    right = min(max(bisect_right(knots, number), 1), len(knots) - 1)
    left = right - 1
    return left, right, (number - knots[left]) / (knots[right] - knots[left])
