"""What the output processor notes of each request: metrics, and the request's own story."""

from __future__ import annotations

import pytest

from octavo import SamplingParams
from octavo.engine.messages import SequenceUpdate, StepEvents
from octavo.engine.output_processor import ProcessedUpdates
from octavo.engine.request_builder import RequestBuilder
from octavo.observe.request_timing import RequestTiming
from octavo.text import Tokenizer
from tests.engine.conversation import Conversation


@pytest.fixture
def it(tokenizer: Tokenizer) -> Conversation:
    return Conversation(tokenizer)


def test_latencies_are_measured_from_arrival_and_between_tokens(it: Conversation):
    (engine_id,) = it.add("r")
    it.clock.now += 2
    it.push(engine_id, it.ids("a"))
    for _ in range(2):
        it.clock.now += 0.5
        it.push(engine_id, it.ids("b"))
    it.clock.now += 1
    it.push(engine_id, it.ids("c"), finish_reason="stop")
    assert (it.metric("time_to_first_token_seconds_count"), it.metric("time_to_first_token_seconds_sum")) == (1, 2)
    assert (it.metric("inter_token_latency_seconds_count"), it.metric("inter_token_latency_seconds_sum")) == (3, 2)
    assert (it.metric("e2e_request_latency_seconds_count"), it.metric("e2e_request_latency_seconds_sum")) == (1, 4)
    assert (it.metric("prompt_tokens_total"), it.metric("generation_tokens_total")) == (3, 4)


def test_the_prompt_of_n_sequences_counts_once_and_their_ends_each(it: Conversation):
    first, second = it.add("r", n=2, stop=["b"])
    it.push(first, it.ids("a"), finish_reason="length")
    it.push(second, it.ids("b"))
    it.add("aborted")
    it.processor.abort("aborted")
    assert it.metric("prompt_tokens_total") == 3
    assert it.metric("e2e_request_latency_seconds_count") == 2
    ends = [
        it.metric(f'request_success_total{{engine="0",finished_reason="{reason}"')
        for reason in ("length", "stop", "abort")
    ]
    assert ends == [1, 1, 1]


def test_tokens_of_one_step_are_as_far_apart_as_their_own_last_ones(it: Conversation):
    (one,), (two,) = it.add("one"), it.add("two")
    it.step(SequenceUpdate(one, it.ids("a")))
    it.clock.now += 1
    it.step(SequenceUpdate(two, it.ids("a")))
    it.clock.now += 2
    it.step(SequenceUpdate(one, it.ids("b")), SequenceUpdate(two, it.ids("b")))
    assert (it.metric("inter_token_latency_seconds_count"), it.metric("inter_token_latency_seconds_sum")) == (2, 5)


# --- The story of a request -------------------------------------------------------------------------------------------


def test_the_last_output_tells_when_the_request_was_where(it: Conversation):
    (engine_id,) = it.add("r", max_tokens=9)
    it.clock.now += 5
    processed = it.processor.process(
        [SequenceUpdate(engine_id, it.ids("a"))],
        StepEvents(admitted=[(engine_id, 2)], chunks=[(engine_id, 1)]),
        started_at=103.0,
    )
    assert processed.outputs[0].timing is None
    it.processor.process([], StepEvents(preempted=[engine_id]), started_at=106.0)
    it.clock.now += 4
    (output,) = it.processor.process(
        [SequenceUpdate(engine_id, it.ids("b"), finish_reason="stop")],
        StepEvents(admitted=[(engine_id, 3)], chunks=[(engine_id, 1)]),
        started_at=108.0,
    ).outputs
    timing = output.timing
    assert timing is not None
    assert (timing.arrived_at, timing.first_scheduled_at, timing.first_token_at) == (100, 103, 105)
    assert (timing.last_token_at, timing.finished_at, timing.finish_reason) == (109, 109, "stop")
    assert (timing.num_prompt_tokens, timing.num_cached_tokens, timing.num_output_tokens) == (3, 2, 2)
    assert (timing.n, timing.max_tokens, timing.preempted_at) == (1, 9, [106.0])
    assert [(event.at, event.kind, event.num_tokens) for event in timing.events] == [
        (103, "scheduled", 2),
        (103, "prefill", 1),
        (106, "preempted", 0),
        (108, "resumed", 3),
        (108, "prefill", 1),
    ]


def test_of_several_sequences_the_first_to_be_scheduled_and_the_first_token_count(it: Conversation):
    first, second = it.add("r", n=2)
    it.processor.process([], StepEvents(admitted=[(second, 0)], chunks=[(second, 3)]), started_at=101.0)
    it.clock.now = 102.0
    it.processor.process(
        [SequenceUpdate(second, it.ids("a"))], StepEvents(admitted=[(first, 2)], chunks=[(first, 1)]), started_at=101.5
    )
    it.clock.now = 103.0
    (output,) = it.step(
        SequenceUpdate(first, it.ids("b"), finish_reason="length"),
        SequenceUpdate(second, it.ids("b"), finish_reason="stop"),
    ).outputs
    timing = output.timing
    assert timing is not None
    assert (timing.first_scheduled_at, timing.first_token_at, timing.num_cached_tokens, timing.n) == (101, 102, 0, 2)
    assert [(event.kind, event.sequence) for event in timing.events if event.kind == "scheduled"] == [
        ("scheduled", 1),
        ("scheduled", 0),
    ]
    assert (timing.num_output_tokens, timing.num_prefill_chunks) == (3, 2)


def test_a_story_that_was_begun_elsewhere_is_gone_on_with(it: Conversation):
    mine = RequestTiming(arrived_at=90.0, arrived_at_unix=1.0)
    built = RequestBuilder(it.tokenizer, vocab_size=320, max_model_len=1000, seed=0).build([1], SamplingParams(), "r")
    it.processor.add(built, mine)
    it.push(built.sequences[0].request_id, it.ids("a"))
    assert (mine.num_prompt_tokens, mine.num_output_tokens, mine.ttft_s) == (1, 1, 10)


def test_an_abort_ends_the_story(it: Conversation):
    it.add("r")
    it.clock.now += 2
    dropped = it.processor.abort("r")
    assert dropped is not None
    timing = dropped.output.timing
    assert timing is not None
    assert (timing.e2e_s, timing.finish_reason, timing.queue_s) == (2, "abort", None)


def test_what_a_step_did_to_an_aborted_request_is_ignored(it: Conversation):
    (engine_id,) = it.add("r")
    it.processor.abort("r")
    events = StepEvents(admitted=[(engine_id, 0)], chunks=[(engine_id, 3)], preempted=[engine_id])
    assert it.processor.process([], events, started_at=1.0) == ProcessedUpdates()
