"""The header ``x-octavo-timing``: what an answer took, for clients that look at single requests.

Its value is a dictionary of structured fields (RFC 9651, section 3.2), which parsers of many languages read. A whole
answer says everything, times in milliseconds::

    x-octavo-timing: queue_ms=0.412, prefill_ms=30.151, decode_ms=200.3, total_ms=230.9, prompt_tokens=17,
        cached_tokens=0, output_tokens=32, chunks=1, preemptions=0, timeline="/v1/requests/chatcmpl-…/timeline"

A stream's headers go out before any of that is known, so they say only where it will be found::

    x-octavo-timing: timeline="/v1/requests/chatcmpl-…/timeline"

Times are left out that never came to be, like ``decode_ms`` of an answer without tokens. The sum of queue, prefill and
decode is the time to the last token. Of several prompts, and of ``n`` answers to one, the first to be scheduled, the
first token and the last one count; numbers of tokens, chunks and preemptions are sums.
"""

from __future__ import annotations

from typing import TypeVar

from starlette.responses import Response

from octavo.api.request_history import RequestStory

HEADER = "x-octavo-timing"
ResponseT = TypeVar("ResponseT", bound=Response)


def timeline_path(story: RequestStory) -> str:
    """Return where the story of a request can be read."""
    return f"/v1/requests/{story.id}/timeline"


def add_timing(response: ResponseT, story: RequestStory) -> ResponseT:
    """Add the header to an answer, with all that is known now."""
    response.headers[HEADER] = ", ".join([*_numbers(story), f'timeline="{timeline_path(story)}"'])
    return response


def _numbers(story: RequestStory) -> list[str]:
    if not story.timings:
        return []
    timing = story.timing
    times = {"queue": timing.queue_s, "prefill": timing.prefill_s, "decode": timing.decode_s, "total": timing.e2e_s}
    counts = {
        "prompt_tokens": timing.num_prompt_tokens,
        "cached_tokens": timing.num_cached_tokens,
        "output_tokens": timing.num_output_tokens,
        "chunks": timing.num_prefill_chunks,
        "preemptions": len(timing.preempted_at),
    }
    known = [f"{name}_ms={seconds * 1e3:.3f}" for name, seconds in times.items() if seconds is not None]
    return [*known, *(f"{name}={number}" for name, number in counts.items())]
