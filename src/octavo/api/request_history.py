"""The requests that run and those that ran last, each with its own story. Never a prompt or an answer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Literal

from octavo.observe.log_context import log_fields
from octavo.observe.request_timing import RequestTiming, combine_timings

MAX_FINISHED = 1000
"""Finished requests that are remembered."""
State = Literal["queued", "prefill", "decode", "finished"]


class RequestStory:
    """One HTTP request that generates; made when it comes in.

    Attributes:
        id: id of the answer.
        request_id: the ``x-request-id`` of the answer.
        timings: one for each prompt, filled while the engine computes; empty before the prompts were taken.
    """

    def __init__(self, answer_id: str, model: str) -> None:
        self.id = answer_id
        self.request_id = log_fields().get("request_id", "")
        self.model = model
        self.timings: list[RequestTiming] = []
        self._arrived_at = time.monotonic()
        self._arrived_at_unix = time.time()

    def begin(self, num_prompts: int) -> list[RequestTiming]:
        """Return one timing for each prompt; they count from the arrival of the HTTP request."""
        self.timings = [RequestTiming(self._arrived_at, self._arrived_at_unix) for _ in range(num_prompts)]
        return self.timings

    @property
    def timing(self) -> RequestTiming:
        """All prompts together."""
        return combine_timings(self.timings)

    @property
    def state(self) -> State:
        """Where the request stands."""
        timing = self.timing
        if timing.finished_at is not None:
            return "finished"
        if timing.first_token_at is not None:
            return "decode"
        return "queued" if timing.first_scheduled_at is None else "prefill"


class RequestHistory:
    """Running requests, and the last ``MAX_FINISHED`` that ended."""

    def __init__(self) -> None:
        self._running: dict[str, RequestStory] = {}
        self._finished: deque[RequestStory] = deque(maxlen=MAX_FINISHED)

    def add(self, story: RequestStory) -> None:
        """Take in a request whose prompts are on their way to the engine."""
        self._running[story.id] = story

    def end(self, story: RequestStory) -> None:
        """Note that a request has ended in any way; one that the engine refused altogether is forgotten."""
        del self._running[story.id]
        story.timings = [timing for timing in story.timings if timing.finished_at is not None]
        if story.timings:
            self._finished.append(story)

    def find(self, name: str) -> RequestStory | None:
        """Return a request by the id of its answer or its ``x-request-id``; the newest if clients used one twice."""
        return next((story for story in self._newest_first() if name in (story.id, story.request_id)), None)

    def running(self) -> list[RequestStory]:
        """Return the running requests, oldest first."""
        return list(self._running.values())

    def finished(self, limit: int) -> list[RequestStory]:
        """Return the requests that ended last, newest first."""
        return [story for story, _ in zip(reversed(self._finished), range(limit), strict=False)]

    def _newest_first(self) -> Iterator[RequestStory]:
        yield from reversed(self._running.values())
        yield from reversed(self._finished)
