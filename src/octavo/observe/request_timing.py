"""One request's own story: when it arrived, waited, was computed, was preempted and ended, and how many tokens it had.

The record is made when a request arrives, filled while steps come, and read by metrics, headers, timelines and traces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

EventKind = Literal["scheduled", "prefill", "preempted", "resumed"]


@dataclass(frozen=True, slots=True)
class SequenceEvent:
    """Something that a step did to one sequence of a request.

    Attributes:
        at: monotonic seconds at which the step began.
        kind: ``scheduled`` and ``resumed``: it was let in, for the first time or after a preemption; ``prefill``: a
            chunk of its known tokens was computed, after a preemption again; ``preempted``: its blocks were taken.
        sequence: index among the ``n`` sequences of the request.
        num_tokens: ``scheduled`` and ``resumed``: tokens that the prefix cache held; ``prefill``: tokens computed.
    """

    at: float
    kind: EventKind
    sequence: int = 0
    num_tokens: int = 0


@dataclass(slots=True)
class RequestTiming:
    """When one request was where, and how many tokens it had.

    Times are seconds of ``time.monotonic()``, which all processes of a machine share; None until they have come. With
    several sequences (``n > 1``) the first that is scheduled and the first token of any of them count.

    Attributes:
        arrived_at: when the request came in, before it was tokenized.
        arrived_at_unix: the same moment in seconds since 1970.
        first_scheduled_at: when the first step that computed some of it began.
        first_token_at, last_token_at: when tokens were taken in by the process that answers.
        finished_at: when the last sequence ended for any reason.
        num_cached_tokens: prompt tokens that the prefix cache held when the request was first scheduled.
        num_output_tokens: tokens that the engine gave, of all sequences together.
        finish_reason: of the sequence that ended last: ``stop``, ``length`` or ``abort``.
        n: sequences of the request.
        max_tokens: output tokens that each sequence may have at most.
        events: what the steps did, in order.
    """

    arrived_at: float
    arrived_at_unix: float
    first_scheduled_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    finished_at: float | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    finish_reason: str | None = None
    n: int = 1
    max_tokens: int = 0
    events: list[SequenceEvent] = field(default_factory=list)

    @property
    def num_prefill_chunks(self) -> int:
        """Pieces in which the known tokens of all sequences were computed, recomputation included."""
        return sum(event.kind == "prefill" for event in self.events)

    @property
    def preempted_at(self) -> list[float]:
        """When a sequence lost its blocks, once for each time."""
        return [event.at for event in self.events if event.kind == "preempted"]

    @property
    def queue_s(self) -> float | None:
        """Seconds from arrival to the first step."""
        return _difference(self.arrived_at, self.first_scheduled_at)

    @property
    def prefill_s(self) -> float | None:
        """Seconds from the first step to the first token."""
        return _difference(self.first_scheduled_at, self.first_token_at)

    @property
    def decode_s(self) -> float | None:
        """Seconds from the first to the last token."""
        return _difference(self.first_token_at, self.last_token_at)

    @property
    def inference_s(self) -> float | None:
        """Seconds from the first step to the last token."""
        return _difference(self.first_scheduled_at, self.last_token_at)

    @property
    def ttft_s(self) -> float | None:
        """Time to first token, in seconds."""
        return _difference(self.arrived_at, self.first_token_at)

    @property
    def tpot_s(self) -> float | None:
        """Mean seconds per output token of a sequence after its first; None with fewer than two tokens a sequence."""
        num_gaps = self.num_output_tokens / self.n - 1
        return None if self.decode_s is None or num_gaps <= 0 else self.decode_s / num_gaps

    @property
    def e2e_s(self) -> float | None:
        """Seconds from arrival to end."""
        return _difference(self.arrived_at, self.finished_at)

    def unix_time(self, at: float) -> float:
        """Return a monotonic time as seconds since 1970."""
        return self.arrived_at_unix + (at - self.arrived_at)


def combine_timings(timings: Sequence[RequestTiming]) -> RequestTiming:
    """Return the story of several requests that make one answer: first to begin, last to end, tokens together."""
    if len(timings) == 1:
        return timings[0]
    finish_times = [timing.finished_at for timing in timings]
    first = min(timings, key=lambda timing: timing.arrived_at)
    last = max(timings, key=lambda timing: timing.finished_at or 0.0)
    all_finished = None not in finish_times
    return RequestTiming(
        arrived_at=first.arrived_at,
        arrived_at_unix=first.arrived_at_unix,
        first_scheduled_at=min(_known(timing.first_scheduled_at for timing in timings), default=None),
        first_token_at=min(_known(timing.first_token_at for timing in timings), default=None),
        last_token_at=max(_known(timing.last_token_at for timing in timings), default=None),
        finished_at=last.finished_at if all_finished else None,
        num_prompt_tokens=sum(timing.num_prompt_tokens for timing in timings),
        num_cached_tokens=sum(timing.num_cached_tokens for timing in timings),
        num_output_tokens=sum(timing.num_output_tokens for timing in timings),
        finish_reason=last.finish_reason if all_finished else None,
        n=sum(timing.n for timing in timings),
        max_tokens=max(timing.max_tokens for timing in timings),
        events=sorted((event for timing in timings for event in timing.events), key=lambda event: event.at),
    )


def _known(times: Iterable[float | None]) -> list[float]:
    return [at for at in times if at is not None]


def _difference(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
