"""Beam search on top of an engine: which sequences to go on with, from the log-probabilities of one more token of each.

An engine computes a step of all beams as requests for one token; their shared prefixes are in its prefix cache.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from octavo.engine.sampling_params import MAX_LOGPROBS, RequestOutputKind, SamplingParams
from octavo.errors import RequestError

if TYPE_CHECKING:
    from octavo.engine.outputs import FinishReason, Logprob, RequestOutput

MAX_BEAM_WIDTH = MAX_LOGPROBS // 2


class BeamSearchParams(msgspec.Struct, kw_only=True):
    """Parameters of one beam search.

    Attributes:
        beam_width: sequences that are kept after each token, and returned; at most 10.
        max_tokens: most tokens to generate.
        ignore_eos: go on after an end-of-sequence token.
        length_penalty: a sequence's log-probability is divided by its length to the power of this; above 0 it prefers
            longer sequences.

    Raises:
        RequestError: a value is out of range; ``param`` names the field.
    """

    beam_width: int
    max_tokens: int = 16
    ignore_eos: bool = False
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.beam_width <= MAX_BEAM_WIDTH:
            raise RequestError(
                f"beam_width (n) must be at least 1 and at most {MAX_BEAM_WIDTH}, not {self.beam_width}", param="n"
            )
        if self.max_tokens < 1:
            raise RequestError(f"max_tokens must be at least 1, not {self.max_tokens}", param="max_tokens")
        if not -10 <= self.length_penalty <= 10:
            raise RequestError(
                f"length_penalty must be at least -10 and at most 10, not {self.length_penalty}", param="length_penalty"
            )


@dataclass(frozen=True, slots=True)
class Beam:
    """A sequence of output tokens, and the log-probability of all of them together."""

    token_ids: tuple[int, ...] = ()
    logprob: float = 0.0
    has_ended: bool = False

    @property
    def finish_reason(self) -> FinishReason:
        """Why it goes no further."""
        return "stop" if self.has_ended else "length"

    def score(self, length_penalty: float) -> float:
        """Return what beams are compared by; an end-of-sequence token counts in the length."""
        return self.logprob / math.pow(max(len(self.token_ids), 1), length_penalty)


@dataclass(frozen=True, slots=True)
class BeamSearchSequence:
    """One of the sequences that a search found, with vLLM's names.

    Attributes:
        tokens: prompt and output.
        text: of all tokens.
        cum_logprob: log-probability of the output.
    """

    tokens: list[int]
    text: str
    cum_logprob: float
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class BeamSearchOutput:
    """What a search found for one prompt, best first."""

    sequences: list[BeamSearchSequence]


class BeamSearch:
    """The beams of one prompt.

    Args:
        eos_token_ids: tokens that end a sequence.
        room: tokens that fit behind the prompt.

    Attributes:
        beams: the sequences to go on with, best first.
    """

    def __init__(self, params: BeamSearchParams, eos_token_ids: Collection[int], room: int) -> None:
        self.beams: list[Beam] = [Beam()]
        self._params = params
        self._eos_token_ids = frozenset() if params.ignore_eos else frozenset(eos_token_ids)
        self._max_tokens = min(params.max_tokens, room)
        self._num_tokens = 0
        self._ended: list[Beam] = []

    @property
    def is_done(self) -> bool:
        """Whether the greatest length is reached, or no beam that goes on can still become one of the best."""
        if self._num_tokens >= self._max_tokens or not self.beams:
            return True
        width, penalty = self._params.beam_width, self._params.length_penalty
        if len(self._ended) < width:
            return False
        # A log-probability only falls: a beam is at its best if it ends at once, or at the limit without further loss.
        length = self._max_tokens if penalty > 0 else self._num_tokens + 1
        worst_kept = sorted(map(self._score, self._ended), reverse=True)[width - 1]
        return self.beams[0].logprob / math.pow(length, penalty) <= worst_kept

    @property
    def step_params(self) -> SamplingParams:
        """What to ask for each beam: one more token and the log-probabilities of the likely ones."""
        return SamplingParams(
            temperature=0,
            max_tokens=1,
            logprobs=2 * self._params.beam_width,
            detokenize=False,
            ignore_eos=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def extend(self, likely: Sequence[Mapping[int, Logprob]]) -> None:
        """Go on by one token.

        Args:
            likely: for each beam the likely next tokens.
        """
        extended = [
            Beam((*beam.token_ids, token_id), beam.logprob + entry.logprob, token_id in self._eos_token_ids)
            for beam, tokens in zip(self.beams, likely, strict=True)
            for token_id, entry in tokens.items()
        ]
        extended.sort(key=lambda beam: beam.logprob, reverse=True)  # all are of one length
        self._ended += [beam for beam in extended[: self._params.beam_width] if beam.has_ended]
        self.beams = [beam for beam in extended if not beam.has_ended][: self._params.beam_width]
        self._num_tokens += 1

    def best(self) -> list[Beam]:
        """Return the ``beam_width`` best sequences, best first."""
        found = sorted([*self._ended, *self.beams], key=self._score, reverse=True)
        return found[: self._params.beam_width]

    def _score(self, beam: Beam) -> float:
        return beam.score(self._params.length_penalty)


def likely_tokens(output: RequestOutput) -> Mapping[int, Logprob]:
    """Return the likely next tokens from the output of a request with a search's ``step_params``."""
    (position,) = output.outputs[0].logprobs or [{}]
    return position
