from __future__ import annotations

from octavo.observe.request_timing import RequestTiming, SequenceEvent, combine_timings

PREEMPTED_ONCE = RequestTiming(
    arrived_at=10.0,
    arrived_at_unix=1000.0,
    first_scheduled_at=11.0,
    first_token_at=13.0,
    last_token_at=19.0,
    finished_at=20.0,
    num_prompt_tokens=5,
    num_output_tokens=4,
    finish_reason="stop",
    events=[
        SequenceEvent(11.0, "scheduled"),
        SequenceEvent(11.0, "prefill", num_tokens=5),
        SequenceEvent(14.0, "preempted"),
        SequenceEvent(15.0, "resumed", num_tokens=4),
        SequenceEvent(15.0, "prefill", num_tokens=2),
    ],
)


def test_phases_follow_each_other():
    timing = PREEMPTED_ONCE
    assert (timing.queue_s, timing.prefill_s, timing.decode_s, timing.ttft_s) == (1, 2, 6, 3)
    assert (timing.inference_s, timing.tpot_s, timing.e2e_s) == (8, 2, 10)
    assert (timing.num_prefill_chunks, timing.preempted_at) == (2, [14.0])
    assert timing.unix_time(14.0) == 1004.0


def test_what_has_not_come_is_none():
    timing = RequestTiming(arrived_at=10.0, arrived_at_unix=1000.0)
    assert [timing.queue_s, timing.prefill_s, timing.decode_s, timing.ttft_s] == [None] * 4
    assert [timing.inference_s, timing.tpot_s, timing.e2e_s] == [None] * 3


def test_one_token_has_no_time_between_tokens():
    timing = RequestTiming(
        arrived_at=0.0, arrived_at_unix=0.0, first_token_at=1.0, last_token_at=1.0, num_output_tokens=1
    )
    assert (timing.decode_s, timing.tpot_s) == (0, None)


def test_several_sequences_share_the_time_between_tokens():
    timing = RequestTiming(
        arrived_at=0.0, arrived_at_unix=0.0, first_token_at=1.0, last_token_at=5.0, num_output_tokens=10, n=2
    )
    assert timing.tpot_s == 1.0


def test_prompts_together_last_from_the_first_to_the_last():
    later = RequestTiming(
        arrived_at=10.5,
        arrived_at_unix=1000.5,
        first_scheduled_at=10.75,
        first_token_at=14.0,
        last_token_at=30.0,
        finished_at=30.0,
        num_prompt_tokens=7,
        num_output_tokens=3,
        finish_reason="length",
        events=[SequenceEvent(10.75, "scheduled")],
    )
    both = combine_timings([PREEMPTED_ONCE, later])
    assert (both.arrived_at, both.first_scheduled_at, both.first_token_at) == (10.0, 10.75, 13.0)
    assert (both.last_token_at, both.finished_at, both.finish_reason, both.n) == (30.0, 30.0, "length", 2)
    assert (both.num_prompt_tokens, both.num_output_tokens) == (12, 7)
    assert [event.at for event in both.events] == sorted(event.at for event in both.events)


def test_prompts_together_are_not_finished_before_all_are():
    running = RequestTiming(arrived_at=10.0, arrived_at_unix=1000.0)
    both = combine_timings([PREEMPTED_ONCE, running])
    assert (both.finished_at, both.finish_reason, both.first_token_at) == (None, None, 13.0)
