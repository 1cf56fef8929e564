from __future__ import annotations

import re

import pytest
from starlette.responses import Response

from octavo.api.request_history import MAX_FINISHED, RequestHistory, RequestStory
from octavo.api.timeline import request_list, timeline
from octavo.api.timing_header import HEADER, add_timing
from octavo.observe.log_context import log_context
from octavo.observe.request_timing import RequestTiming, SequenceEvent

# A dictionary of structured fields (RFC 9651, section 3.2) whose values are integers, decimals and strings.
_MEMBER = r'[a-z*][a-z0-9_.*-]*=(?:-?\d{1,15}|-?\d{1,12}\.\d{1,3}|"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*")'
DICTIONARY = re.compile(rf"{_MEMBER}(?:[ \t]*,[ \t]*{_MEMBER})*")


def story(answer_id: str, request_id: str = "", *, num_prompts: int = 1) -> RequestStory:
    with log_context(request_id=request_id):
        made = RequestStory(answer_id, "m")
    made.begin(num_prompts)
    return made


def finish(timing: RequestTiming, *, at: float = 1.0, reason: str = "stop") -> None:
    """Let a request be computed: queued 0.1 s, prefilled in two chunks, decoded until ``at`` seconds after arrival."""
    start = timing.arrived_at
    timing.first_scheduled_at = start + 0.1
    timing.events += [SequenceEvent(start + 0.1, "scheduled", num_tokens=4)]
    timing.events += [SequenceEvent(start + since, "prefill", num_tokens=8) for since in (0.1, 0.2)]
    timing.first_token_at = start + 0.3
    timing.last_token_at = timing.finished_at = start + at
    timing.num_prompt_tokens, timing.num_cached_tokens, timing.num_output_tokens = 20, 4, 8
    timing.finish_reason = reason


def test_a_request_is_found_by_either_id_while_it_runs_and_after():
    history = RequestHistory()
    mine = story("chatcmpl-1", "my-id")
    history.add(mine)
    assert history.find("chatcmpl-1") is history.find("my-id") is mine
    finish(mine.timings[0])
    history.end(mine)
    assert history.find("chatcmpl-1") is history.find("my-id") is mine
    assert history.find("other") is None
    assert (history.running(), history.finished(9)) == ([], [mine])


def test_of_requests_with_one_id_the_newest_is_found():
    history = RequestHistory()
    stories = [story(f"cmpl-{number}", "same") for number in range(3)]
    for each in stories:
        history.add(each)
    assert history.find("same") is stories[2]
    finish(stories[2].timings[0])
    history.end(stories[2])
    assert history.find("same") is stories[1]


def test_the_oldest_finished_ones_are_forgotten():
    history = RequestHistory()
    for number in range(MAX_FINISHED + 5):
        each = story(f"cmpl-{number}")
        history.add(each)
        finish(each.timings[0])
        history.end(each)
    assert history.find("cmpl-4") is None
    assert history.find("cmpl-5") is not None
    assert [each.id for each in history.finished(2)] == [f"cmpl-{MAX_FINISHED + 4}", f"cmpl-{MAX_FINISHED + 3}"]
    assert (len(history.finished(2 * MAX_FINISHED)), history.finished(0)) == (MAX_FINISHED, [])


def test_what_the_engine_refused_leaves_no_story():
    history = RequestHistory()
    refused, partly = story("cmpl-1"), story("cmpl-2", num_prompts=2)
    for each in (refused, partly):
        history.add(each)
    finish(partly.timings[0], reason="abort")
    history.end(refused)
    history.end(partly)
    assert [(each.id, each.state) for each in history.finished(9)] == [("cmpl-2", "finished")]


def test_states_follow_each_other():
    mine = story("cmpl-1", num_prompts=2)
    one, two = mine.timings
    seen = [mine.state]
    one.first_scheduled_at = one.arrived_at
    seen.append(mine.state)
    one.first_token_at = one.arrived_at + 1
    seen.append(mine.state)
    finish(one)
    seen.append(mine.state)
    finish(two)
    seen.append(mine.state)
    assert seen == ["queued", "prefill", "decode", "decode", "finished"]


def test_a_timeline_counts_milliseconds_from_the_arrival():
    mine = story("cmpl-1", "my-id")
    finish(mine.timings[0])
    mine.timings[0].events.append(SequenceEvent(mine.timings[0].arrived_at + 0.5, "preempted"))
    shown = timeline(mine)
    assert (shown.id, shown.request_id, shown.model, shown.finish_reason) == ("cmpl-1", "my-id", "m", "stop")
    times = (shown.queue_ms, shown.prefill_ms, shown.decode_ms, shown.time_to_first_token_ms, shown.total_ms)
    assert times == pytest.approx((100, 200, 700, 300, 1000))
    assert shown.time_per_output_token_ms == pytest.approx(100)
    assert (shown.num_prefill_chunks, shown.num_preemptions) == (2, 1)
    assert [(event.event, event.at_ms, event.num_tokens) for event in shown.events] == [
        ("arrived", 0, None),
        ("scheduled", 100, 4),
        ("prefill_chunk", 100, 8),
        ("prefill_chunk", 200, 8),
        ("first_token", 300, None),
        ("preempted", 500, None),
        ("last_token", 1000, None),
        ("finished", 1000, None),
    ]


def test_a_timeline_of_several_prompts_says_which():
    mine = story("cmpl-1", num_prompts=2)
    for at, timing in zip((1.0, 2.0), mine.timings, strict=True):
        finish(timing, at=at)
    ends = [(event.prompt, event.at_ms) for event in timeline(mine).events if event.event == "finished"]
    assert ends == [(0, 1000), (1, 2000)]


def test_the_list_shows_running_and_finished_requests():
    history = RequestHistory()
    running, finished = story("cmpl-1"), story("cmpl-2")
    for each in (running, finished):
        history.add(each)
    finish(finished.timings[0], reason="length")
    history.end(finished)
    shown = request_list(history, 10)
    (first,), (second,) = shown.running, shown.finished
    assert (first.id, first.state, first.finish_reason, first.num_output_tokens) == ("cmpl-1", "queued", None, 0)
    assert (second.id, second.state, second.finish_reason) == ("cmpl-2", "finished", "length")
    assert (second.num_prompt_tokens, second.num_cached_tokens, second.num_output_tokens) == (20, 4, 8)


def test_the_header_of_a_whole_answer_says_everything():
    mine = story("cmpl-1")
    finish(mine.timings[0])
    value = add_timing(Response(), mine).headers[HEADER]
    assert DICTIONARY.fullmatch(value)
    members = dict(member.split("=", 1) for member in value.split(", "))
    assert members == {
        "queue_ms": "100.000",
        "prefill_ms": "200.000",
        "decode_ms": "700.000",
        "total_ms": "1000.000",
        "prompt_tokens": "20",
        "cached_tokens": "4",
        "output_tokens": "8",
        "chunks": "2",
        "preemptions": "0",
        "timeline": '"/v1/requests/cmpl-1/timeline"',
    }


def test_the_header_of_a_stream_says_where_to_look():
    value = add_timing(Response(), RequestStory("cmpl-1", "m")).headers[HEADER]
    assert value == 'timeline="/v1/requests/cmpl-1/timeline"'
    assert DICTIONARY.fullmatch(value)
