"""What ``/v1/requests`` answers: running and finished requests, and the timeline of one of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec

from octavo.api.request_history import RequestHistory, RequestStory, State
from octavo.observe.request_timing import EventKind, RequestTiming

EventName = Literal[
    "arrived", "scheduled", "prefill_chunk", "preempted", "resumed", "first_token", "last_token", "finished"
]
_NAMES_OF_STEPS: Mapping[EventKind, EventName] = {
    "scheduled": "scheduled",
    "prefill": "prefill_chunk",
    "preempted": "preempted",
    "resumed": "resumed",
}


class RequestSummary(msgspec.Struct, kw_only=True):
    """One request in the list.

    Attributes:
        id: id of the answer.
        request_id: ``x-request-id`` of the answer.
        age_s: seconds since it came in.
        num_output_tokens: so far, of all its sequences.
        finish_reason: of a finished one, that of the sequence that ended last.
    """

    id: str
    request_id: str
    model: str
    state: State
    age_s: float
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    finish_reason: str | None = None


class RequestList(msgspec.Struct, kw_only=True):
    """Answer of ``GET /v1/requests``: running requests, oldest first, and the last ones that ended, newest first.

    A request whose client still reads runs, though its state may be ``finished``.
    """

    object: Literal["list"] = "list"
    running: list[RequestSummary]
    finished: list[RequestSummary]


class TimelineEvent(msgspec.Struct, omit_defaults=True):
    """Something that happened to a request.

    Attributes:
        at_ms: milliseconds after the request came in.
        prompt, sequence: to which of several prompts, and to which of the ``n`` sequences of one.
        num_tokens: of ``scheduled`` and ``resumed``: tokens that the prefix cache held; of ``prefill_chunk``: tokens
            computed.
    """

    at_ms: float
    event: EventName
    prompt: int = 0
    sequence: int = 0
    num_tokens: int | None = None


class Timeline(msgspec.Struct, kw_only=True):
    """Answer of ``GET /v1/requests/{id}/timeline``. Times are null until they have come to be.

    Attributes:
        started_at: when the request came in, as ISO 8601 says it, in UTC.
        queue_ms, prefill_ms, decode_ms: until the first step, from there to the first token, from there to the last.
        time_per_output_token_ms: mean after the first token of a sequence.
        total_ms: until the last sequence ended.
        n: sequences of all prompts.
    """

    id: str
    request_id: str
    model: str
    state: State
    finish_reason: str | None
    started_at: str
    queue_ms: float | None
    prefill_ms: float | None
    decode_ms: float | None
    time_to_first_token_ms: float | None
    time_per_output_token_ms: float | None
    total_ms: float | None
    n: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    num_prefill_chunks: int
    num_preemptions: int
    events: list[TimelineEvent]


def request_list(history: RequestHistory, limit: int) -> RequestList:
    """Return all running requests and at most ``limit`` finished ones."""
    now = time.monotonic()
    return RequestList(
        running=[_summary(story, now) for story in history.running()],
        finished=[_summary(story, now) for story in history.finished(limit)],
    )


def timeline(story: RequestStory) -> Timeline:
    """Return what is known of a request now."""
    timing = story.timing
    events = [event for prompt, part in enumerate(story.timings) for event in _events(part, prompt)]
    return Timeline(
        id=story.id,
        request_id=story.request_id,
        model=story.model,
        state=story.state,
        finish_reason=timing.finish_reason,
        started_at=datetime.fromtimestamp(timing.arrived_at_unix, UTC).isoformat(timespec="milliseconds"),
        queue_ms=_ms(timing.queue_s),
        prefill_ms=_ms(timing.prefill_s),
        decode_ms=_ms(timing.decode_s),
        time_to_first_token_ms=_ms(timing.ttft_s),
        time_per_output_token_ms=_ms(timing.tpot_s),
        total_ms=_ms(timing.e2e_s),
        n=timing.n,
        num_prompt_tokens=timing.num_prompt_tokens,
        num_cached_tokens=timing.num_cached_tokens,
        num_output_tokens=timing.num_output_tokens,
        num_prefill_chunks=timing.num_prefill_chunks,
        num_preemptions=len(timing.preempted_at),
        events=sorted(events, key=lambda event: event.at_ms),
    )


def _summary(story: RequestStory, now: float) -> RequestSummary:
    timing = story.timing
    return RequestSummary(
        id=story.id,
        request_id=story.request_id,
        model=story.model,
        state=story.state,
        age_s=round(now - timing.arrived_at, 3),
        num_prompt_tokens=timing.num_prompt_tokens,
        num_cached_tokens=timing.num_cached_tokens,
        num_output_tokens=timing.num_output_tokens,
        finish_reason=timing.finish_reason,
    )


def _events(timing: RequestTiming, prompt: int) -> list[TimelineEvent]:
    """Return the events of one prompt, in order."""
    events = [TimelineEvent(0.0, "arrived", prompt)]
    for step in timing.events:
        num_tokens = None if step.kind == "preempted" else step.num_tokens
        name = _NAMES_OF_STEPS[step.kind]
        events.append(TimelineEvent(_since(timing, step.at), name, prompt, step.sequence, num_tokens))
    ends: tuple[tuple[EventName, float | None], ...] = (
        ("first_token", timing.first_token_at),
        ("last_token", timing.last_token_at),
        ("finished", timing.finished_at),
    )
    events += [TimelineEvent(_since(timing, at), name, prompt) for name, at in ends if at is not None]
    return events


def _since(timing: RequestTiming, at: float) -> float:
    return round((at - timing.arrived_at) * 1e3, 3)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)
