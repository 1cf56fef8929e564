"""How long a step of the engine takes: the seam between whoever asks (planner, simulator) and whoever estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StepShape:
    """What decides the duration of a step.

    Attributes:
        num_tokens: tokens computed, over all sequences.
        num_seqs: sequences that take part.
        num_samples: sequences for which a token is sampled.
        num_context_tokens: keys and values read, in tokens: the sum of the sequences' lengths after the step.
        num_attention_pairs: query-key pairs under the causal mask, summed over the sequences.
        num_prefill_seqs: sequences that compute more than one token; kernels treat each of them on its own.
        context_spread: longest minus shortest of the sequences that compute one token, in parts of their mean, at most
            1: kernels that compute several of them together are faster if they are of equal length.
    """

    num_tokens: int
    num_seqs: int
    num_samples: int
    num_context_tokens: int
    num_attention_pairs: int
    num_prefill_seqs: int = 0
    context_spread: float = 0.0

    @classmethod
    def of(cls, starts: list[int], counts: list[int], num_samples: int) -> StepShape:
        """Describe a step in which sequence ``i`` computes ``counts[i]`` tokens from position ``starts[i]`` on."""
        return cls(
            num_tokens=sum(counts),
            num_seqs=len(counts),
            num_samples=num_samples,
            num_context_tokens=sum(starts) + sum(counts),
            num_attention_pairs=sum(
                start * count + count * (count + 1) // 2 for start, count in zip(starts, counts, strict=True)
            ),
            num_prefill_seqs=len(counts) - counts.count(1),
            context_spread=_spread([start + 1 for start, count in zip(starts, counts, strict=True) if count == 1]),
        )


class StepTimeModel(Protocol):
    """Predicts the duration of steps of one model on one machine."""

    def step_seconds(self, step: StepShape) -> float:
        """Return the seconds that a step takes, scheduling and sampling included."""


def _spread(lengths: list[int]) -> float:
    if len(lengths) < 2:
        return 0.0
    return min((max(lengths) - min(lengths)) * len(lengths) / sum(lengths), 1.0)
