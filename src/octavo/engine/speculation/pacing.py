"""How long drafts are worth while: what a step of more tokens costs against the tokens that it can be expected to give.

The engine core has no clock. What steps cost is measured once, when the engine starts; after that the same results give
the same decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_FIRST_RATE = 0.75
_WEIGHT_OF_FIRST_RATE = 4
_LEAST_WEIGHT = 0.04
_RECOVERY = 0.01


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Seconds of a decode step by its number of tokens.

    Attributes:
        num_tokens: ascending; between them costs lie on straight lines, and beyond them on the last one.
        seconds: one entry each.
        seconds_to_draft: of making drafts at all in a step, where a model makes them.
        seconds_per_draft_token: of one further token of all drafts of a step, where a model makes them.
        seconds_to_catch_up: of computing known tokens of a sequence at all, before a model can make a draft of it.
        seconds_per_known_token: of each of these tokens.
    """

    num_tokens: Sequence[int] = (1, 2)
    seconds: Sequence[float] = (1.0, 1.0)
    seconds_to_draft: float = 0.0
    seconds_per_draft_token: float = 0.0
    seconds_to_catch_up: float = 0.0
    seconds_per_known_token: float = 0.0

    def of_step(self, num_tokens: int) -> float:
        """Return the seconds of a step."""
        sizes, seconds = self.num_tokens, self.seconds
        last = len(sizes) - 1
        index = next((index for index in range(1, last) if num_tokens <= sizes[index]), last)
        slope = (seconds[index] - seconds[index - 1]) / (sizes[index] - sizes[index - 1])
        return max(seconds[index - 1] + slope * (num_tokens - sizes[index - 1]), seconds[0])

    def of_drafting(self, num_tokens: int) -> float:
        """Return the seconds in which drafts of up to ``num_tokens`` tokens are made."""
        return self.seconds_to_draft + num_tokens * self.seconds_per_draft_token


@dataclass(slots=True)
class AcceptanceRate:
    """A running mean of how often the model chooses the next token of a draft as well.

    Attributes:
        value: the mean; it begins as if some tokens had been judged already.
        num_judged: tokens so far. The latest always count a little, so that the mean follows a text that changes.
    """

    value: float = _FIRST_RATE
    num_judged: int = _WEIGHT_OF_FIRST_RATE

    def observe(self, num_drafted: int, num_accepted: int) -> None:
        """Learn from a draft: of the tokens up to the first wrong one, how many were right."""
        for index in range(min(num_accepted + 1, num_drafted)):
            self.num_judged += 1
            self.value += max(1 / self.num_judged, _LEAST_WEIGHT) * ((index < num_accepted) - self.value)

    def recover(self) -> None:
        """Forget a little, where drafts were not worth while, so that they are tried again some time."""
        self.value += _RECOVERY * (_FIRST_RATE - self.value)


@dataclass(frozen=True, slots=True)
class Pacer:
    """Chooses the lengths of the drafts of a step.

    Attributes:
        costs: of steps; the default makes further tokens cost nothing, so that all drafts are as long as they may be.
    """

    costs: StepCosts = field(default_factory=StepCosts)

    def choose_lens(self, rates: Sequence[float], max_lens: Sequence[int], *, num_tokens: int) -> list[int]:
        """Return how many tokens of each draft to take, so that the step gives the most tokens a second.

        The ``j``-th token of a draft is accepted with the ``j``-th power of the draft's rate. Tokens are taken from
        the most to the least likely, as long as that makes the step better than any with fewer.

        Args:
            rates: acceptance rate of each draft.
            max_lens: tokens that each draft has.
            num_tokens: tokens of the step without drafts.
        """
        chances = sorted(
            (
                (rate**place, index)
                for index, (rate, max_len) in enumerate(zip(rates, max_lens, strict=True))
                for place in range(1, max_len + 1)
            ),
            key=lambda chance: -chance[0],
        )
        lens, best_lens = [0] * len(rates), [0] * len(rates)
        expected = float(len(rates))
        best = expected / self.costs.of_step(num_tokens)
        longest = 0
        for count, (chance, index) in enumerate(chances, start=1):
            expected += chance
            lens[index] += 1
            longest = max(longest, lens[index])
            seconds = self.costs.of_step(num_tokens + count) + self.costs.of_drafting(longest)
            if expected / seconds >= best:
                best, best_lens = expected / seconds, list(lens)
        return best_lens

    def pays_to_catch_up(
        self, rate: float, max_len: int, *, num_behind: int, num_expected: int, num_tokens: int
    ) -> bool:
        """Return whether drafts save more than it takes to compute what must be known before the first of them.

        Args:
            rate: acceptance rate of the drafts.
            max_len: tokens of a draft at most.
            num_behind: known tokens that must be computed first.
            num_expected: tokens that the sequence is expected to bring yet.
            num_tokens: tokens of a step without drafts.
        """
        if num_behind == 0:
            return True
        costs = self.costs
        seconds_without = costs.of_step(num_tokens)
        per_token = seconds_without / num_tokens
        saved, accepted = 0.0, 0.0
        for length in range(1, max_len + 1):
            accepted += rate**length
            extra = costs.of_step(num_tokens + length) - seconds_without + costs.of_drafting(length)
            saved = max(saved, (accepted * per_token - extra) / (1 + accepted))
        return num_expected * saved >= costs.seconds_to_catch_up + num_behind * costs.seconds_per_known_token
