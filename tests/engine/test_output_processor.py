"""From token ids to what a user sees, over a real tokenizer and without an engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from octavo import RequestOutput, SamplingParams
from octavo.engine.messages import SequenceUpdate, StepEvents, TokenLogprobs
from octavo.engine.output_processor import OutputProcessor, ProcessedUpdates
from octavo.engine.request_builder import RequestBuilder
from octavo.engine.sampling_params import RequestOutputKind
from octavo.errors import RequestError
from octavo.observe.metrics import EngineMetrics
from octavo.observe.request_timing import RequestTiming
from octavo.text import Tokenizer

CUMULATIVE, DELTA, FINAL_ONLY = RequestOutputKind
EOS = 317


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Conversation:
    """One processor and a tokenizer; requests are named, and an update says what one sequence got."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.clock = Clock()
        self.metrics = EngineMetrics("m")
        self.processor = OutputProcessor(tokenizer, metrics=self.metrics, clock=self.clock)
        self._builder = RequestBuilder(tokenizer, vocab_size=320, max_model_len=1000, seed=0)

    def add(self, request_id: str, **params: Any) -> list[str]:
        """Add a request; returns the engine's ids of its sequences."""
        built = self._builder.build([1, 2, 3], SamplingParams(**params), request_id)
        self.processor.add(built)
        return [sequence.request_id for sequence in built.sequences]

    def ids(self, text: str) -> list[int]:
        return [token for char in text for token in self.tokenizer.encode(char)]

    def step(self, *updates: SequenceUpdate) -> ProcessedUpdates:
        return self.processor.process(updates)

    def push(self, engine_id: str, token_ids: Sequence[int], **fields: Any) -> RequestOutput | None:
        """Process one update of one request; returns its output, if it has one."""
        outputs = self.step(SequenceUpdate(engine_id, list(token_ids), **fields)).outputs
        assert len(outputs) <= 1
        return outputs[0] if outputs else None

    def run(self, engine_id: str, token_ids: Iterable[int], end: str = "length", **fields: Any) -> list[RequestOutput]:
        """Process tokens one at a time, the last with a finish reason; stops where a stop string ends the request."""
        token_ids = list(token_ids)
        outputs = []
        for number, token_id in enumerate(token_ids, start=1):
            last = {"finish_reason": end, **fields} if number == len(token_ids) else {}
            output = self.push(engine_id, [token_id], **last)
            outputs += [output] if output is not None else []
            if output is not None and output.finished:
                break
        return outputs

    def metric(self, name: str) -> float:
        lines = generate_latest(self.metrics.registry).decode().splitlines()
        (value,) = [
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith(f"octavo_{name}") and line[len(f"octavo_{name}")] in "{,"
        ]
        return value


@pytest.fixture
def it(tokenizer: Tokenizer) -> Conversation:
    return Conversation(tokenizer)


def test_cumulative_outputs_carry_everything_so_far(it: Conversation):
    (engine_id,) = it.add("r")
    outputs = it.run(engine_id, it.ids("abc"))
    assert [output.outputs[0].text for output in outputs] == ["a", "ab", "abc"]
    assert [output.outputs[0].token_ids for output in outputs] == [it.ids("a"), it.ids("ab"), it.ids("abc")]
    assert [output.finished for output in outputs] == [False, False, True]
    assert outputs[-1].outputs[0].finish_reason == "length"
    assert not any(output.is_delta for output in outputs)


def test_delta_outputs_carry_what_is_new(it: Conversation):
    (engine_id,) = it.add("r", output_kind=DELTA)
    outputs = it.run(engine_id, it.ids("abc"))
    assert [output.outputs[0].text for output in outputs] == ["a", "b", "c"]
    assert [output.outputs[0].token_ids for output in outputs] == [[token] for token in it.ids("abc")]
    assert [output.finished for output in outputs] == [False, False, True]
    assert all(output.is_delta for output in outputs)


def test_final_only_gives_one_output(it: Conversation):
    (engine_id,) = it.add("r", output_kind=FINAL_ONLY)
    (output,) = it.run(engine_id, it.ids("abc"))
    assert (output.finished, output.outputs[0].text, output.prompt_token_ids) == (True, "abc", [1, 2, 3])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(token_ids=st.lists(st.integers(0, 330), min_size=1, max_size=20), skip=st.booleans())
def test_all_kinds_of_output_agree_with_the_tokenizers_own_decoding(
    tokenizer: Tokenizer, token_ids: list[int], skip: bool
):
    it = Conversation(tokenizer)
    texts = {}
    for kind in RequestOutputKind:
        (engine_id,) = it.add(kind.name, output_kind=kind, skip_special_tokens=skip)
        outputs = it.run(engine_id, token_ids)
        assert outputs[-1].finished
        texts[kind] = [output.outputs[0].text for output in outputs]
    known = [token for token in token_ids if token < tokenizer.vocab_size]
    expected = tokenizer.decode(known, skip_special_tokens=skip)
    assert "".join(texts[DELTA]) == texts[CUMULATIVE][-1] == texts[FINAL_ONLY][0] == expected


def test_an_earlier_cumulative_output_does_not_change_later(it: Conversation):
    (engine_id,) = it.add("r", logprobs=0)
    first = it.push(engine_id, it.ids("a"), logprobs=[TokenLogprobs(it.ids("a"), [-1.0], 1)])
    it.push(engine_id, it.ids("b"), logprobs=[TokenLogprobs(it.ids("b"), [-2.0], 1)])
    assert first is not None
    assert first.outputs[0].token_ids == it.ids("a")
    assert first.outputs[0].logprobs is not None
    assert len(first.outputs[0].logprobs) == 1
    assert first.outputs[0].cumulative_logprob == -1.0


def test_half_a_character_waits_for_its_rest(it: Conversation):
    (engine_id,) = it.add("r", output_kind=DELTA)
    outputs = it.run(engine_id, it.tokenizer.encode("你"))
    assert [output.outputs[0].text for output in outputs] == ["", "", "你"]


def test_the_prefix_cache_hit_is_remembered(it: Conversation):
    (engine_id,) = it.add("r")
    it.push(engine_id, it.ids("a"), num_cached_tokens=2)
    last = it.push(engine_id, it.ids("b"), finish_reason="length")
    assert last is not None
    assert last.num_cached_tokens == 2


def test_a_request_is_finished_when_its_last_sequence_is(it: Conversation):
    first, second = it.add("r", n=2)
    output = it.push(first, it.ids("a"), finish_reason="length")
    assert output is not None
    assert not output.finished
    assert [sequence.text for sequence in output.outputs] == ["a", ""]
    assert it.processor.num_unfinished == 1
    output = it.push(second, it.ids("b"), finish_reason="length")
    assert output is not None
    assert output.finished
    assert [(sequence.index, sequence.text, sequence.finish_reason) for sequence in output.outputs] == [
        (0, "a", "length"),
        (1, "b", "length"),
    ]
    assert it.processor.num_unfinished == 0


def test_deltas_come_only_from_the_sequences_that_have_something_new(it: Conversation):
    first, second, third = it.add("r", n=3, output_kind=DELTA)
    (output,) = it.step(SequenceUpdate(third, it.ids("c")), SequenceUpdate(first, it.ids("a"))).outputs
    assert {sequence.index: sequence.text for sequence in output.outputs} == {0: "a", 2: "c"}
    output = it.push(second, it.ids("b"))
    assert output is not None
    assert [sequence.index for sequence in output.outputs] == [1]


def test_final_only_waits_for_all_sequences(it: Conversation):
    first, second = it.add("r", n=2, output_kind=FINAL_ONLY)
    assert it.push(first, it.ids("a"), finish_reason="length") is None
    output = it.push(second, it.ids("b"), finish_reason="length")
    assert output is not None
    assert [sequence.text for sequence in output.outputs] == ["a", "b"]


def test_requests_do_not_mix(it: Conversation):
    (one,), (two,) = it.add("one"), it.add("two")
    outputs = it.step(SequenceUpdate(one, it.ids("a")), SequenceUpdate(two, it.ids("b"))).outputs
    assert {output.request_id: output.outputs[0].text for output in outputs} == {"one": "a", "two": "b"}
    assert set(it.processor.request_ids()) == {"one", "two"}


def test_an_id_in_use_is_refused_and_free_again_after_the_end(it: Conversation):
    (engine_id,) = it.add("r")
    with pytest.raises(ValueError, match="'r' is in use"):
        it.add("r")
    it.push(engine_id, it.ids("a"), finish_reason="length")
    it.add("r")


def test_the_text_of_an_end_of_sequence_token_is_left_out_but_its_id_is_not(it: Conversation):
    (engine_id,) = it.add("r", skip_special_tokens=False)
    last = it.run(engine_id, [*it.ids("ab"), EOS], end="stop")[-1].outputs[0]
    assert (last.text, last.token_ids) == ("ab", [*it.ids("ab"), EOS])
    assert (last.finish_reason, last.stop_reason) == ("stop", None)


def test_the_text_of_a_stop_token_is_left_out_unless_it_was_asked_for(it: Conversation):
    (x,) = it.ids("x")
    for include, text in ((False, "ab"), (True, "abx")):
        (engine_id,) = it.add("r", stop_token_ids=[x], include_stop_str_in_output=include)
        last = it.run(engine_id, it.ids("abx"), end="stop", stop_token_id=x)[-1].outputs[0]
        assert (last.text, last.token_ids, last.stop_reason) == (text, it.ids("abx"), x)


@pytest.mark.parametrize("kind", list(RequestOutputKind))
def test_a_stop_string_ends_the_output_across_tokens_and_does_not_leak(it: Conversation, kind: RequestOutputKind):
    (engine_id,) = it.add("r", stop=["END"], output_kind=kind)
    texts, processed = [], ProcessedUpdates()
    for token_id in it.ids("aENbEND"):
        processed = it.step(SequenceUpdate(engine_id, [token_id]))
        texts += [output.outputs[0].text for output in processed.outputs]
    (output,) = processed.outputs
    assert ("".join(texts) if kind is DELTA else texts[-1]) == "aENb"
    assert not any(text.endswith(("E", "EN", "END")) for text in texts)
    assert (output.outputs[0].finish_reason, output.outputs[0].stop_reason) == ("stop", "END")
    assert processed.aborts == [engine_id], "the engine must be told: it knows no stop strings"
    assert it.processor.num_unfinished == 0


def test_a_stop_string_may_stay_in_the_text(it: Conversation):
    (engine_id,) = it.add("r", stop=["END"], include_stop_str_in_output=True)
    assert it.run(engine_id, it.ids("aENDx"))[-1].outputs[0].text == "aEND"


def test_tokens_and_logprobs_behind_a_stop_string_are_cut_off(it: Conversation):
    (engine_id,) = it.add("r", stop=["b"], logprobs=0)
    token_ids = it.ids("abcd")
    logprobs = [TokenLogprobs([token], [-float(place)], 1) for place, token in enumerate(token_ids, start=1)]
    output = it.push(engine_id, token_ids, logprobs=logprobs)
    assert output is not None
    last = output.outputs[0]
    assert (last.text, last.token_ids, last.cumulative_logprob) == ("a", it.ids("ab"), -3.0)
    assert last.logprobs is not None
    assert [list(position) for position in last.logprobs] == [[token] for token in it.ids("ab")]


def test_a_stop_string_in_the_last_token_is_a_stop_and_no_abort(it: Conversation):
    (engine_id,) = it.add("r", stop=["b"])
    processed = it.step(SequenceUpdate(engine_id, it.ids("ab"), finish_reason="length"))
    last = processed.outputs[0].outputs[0]
    assert (last.text, last.finish_reason, last.stop_reason) == ("a", "stop", "b")
    assert processed.aborts == [], "the engine has ended it already"


def test_the_start_of_a_stop_string_comes_out_at_the_end_if_the_rest_never_came(it: Conversation):
    (engine_id,) = it.add("r", stop=["END"], output_kind=DELTA)
    outputs = it.run(engine_id, it.ids("aEN"))
    assert [output.outputs[0].text for output in outputs] == ["a", "", "EN"]


def test_a_stop_string_within_min_tokens_does_not_count(it: Conversation):
    (engine_id,) = it.add("r", stop=["b"], min_tokens=3)
    last = it.run(engine_id, it.ids("abcabc"))[-1].outputs[0]
    assert (last.text, last.stop_reason) == ("abca", "b")


def test_one_of_several_sequences_may_end_by_a_stop_string(it: Conversation):
    first, second = it.add("r", n=2, stop=["b"])
    processed = it.step(SequenceUpdate(first, it.ids("b")), SequenceUpdate(second, it.ids("c")))
    assert processed.aborts == [first]
    assert not processed.outputs[0].finished
    assert it.push(first, it.ids("x")) is None, "its engine request ran one step longer"
    assert it.processor.num_unfinished == 1


def test_stop_strings_that_are_too_long_are_refused_and_leave_nothing_behind(it: Conversation):
    with pytest.raises(RequestError) as refused:
        it.add("r", stop=["x" * 20_000])
    assert refused.value.param == "stop"
    assert (it.processor.num_unfinished, it.processor.request_ids()) == (0, [])


def test_logprobs_have_the_sampled_token_first_then_the_most_likely_ones(it: Conversation):
    a, b, c = it.ids("abc")
    (engine_id,) = it.add("r", logprobs=2)
    output = it.push(engine_id, [c], logprobs=[TokenLogprobs([c, a, b], [-3.0, -0.5, -1.0], 7)])
    assert output is not None
    assert output.outputs[0].logprobs is not None
    (position,) = output.outputs[0].logprobs
    assert [(token, entry.logprob, entry.rank, entry.decoded_token) for token, entry in position.items()] == [
        (c, -3.0, 7, "c"),
        (a, -0.5, 1, "a"),
        (b, -1.0, 2, "b"),
    ]


def test_a_sampled_token_among_the_most_likely_ones_stands_once(it: Conversation):
    a, b = it.ids("ab")
    (engine_id,) = it.add("r", logprobs=2)
    output = it.push(engine_id, [b], logprobs=[TokenLogprobs([b, a, b], [-1.0, -0.5, -1.0], 2)])
    assert output is not None
    assert output.outputs[0].logprobs is not None
    assert {token: entry.rank for token, entry in output.outputs[0].logprobs[0].items()} == {b: 2, a: 1}


def test_delta_logprobs_are_new_ones_and_the_sum_is_of_all(it: Conversation):
    (engine_id,) = it.add("r", logprobs=0, output_kind=DELTA)
    sums = []
    for char in "ab":
        output = it.push(engine_id, it.ids(char), logprobs=[TokenLogprobs(it.ids(char), [-1.5], 1)])
        assert output is not None
        assert output.outputs[0].logprobs is not None
        assert [list(position) for position in output.outputs[0].logprobs] == [it.ids(char)]
        sums.append(output.outputs[0].cumulative_logprob)
    assert sums == [-1.5, -3.0]


def test_without_the_wish_for_logprobs_there_are_none(it: Conversation):
    (engine_id,) = it.add("r")
    output = it.push(engine_id, it.ids("a"))
    assert output is not None
    assert (output.outputs[0].logprobs, output.outputs[0].cumulative_logprob) == (None, None)


def test_an_abort_says_what_the_engine_must_drop_and_what_there_was(it: Conversation):
    first, second = it.add("r", n=2)
    it.push(first, it.ids("a"), finish_reason="length")
    it.push(second, it.ids("b"))
    dropped = it.processor.abort("r")
    assert dropped is not None
    assert dropped.engine_ids == [second]
    assert dropped.output.finished
    assert [(s.text, s.finish_reason) for s in dropped.output.outputs] == [("a", "length"), ("b", "abort")]
    assert (it.processor.num_unfinished, it.processor.request_ids()) == (0, [])


def test_an_abort_in_deltas_tells_only_of_the_sequences_that_it_ended(it: Conversation):
    first, second = it.add("r", n=2, output_kind=DELTA)
    it.push(first, it.ids("a"), finish_reason="length")
    it.push(second, it.ids("b"))
    dropped = it.processor.abort("r")
    assert dropped is not None
    assert [(s.index, s.text, s.finish_reason) for s in dropped.output.outputs] == [(1, "", "abort")]


def test_updates_after_an_abort_are_ignored(it: Conversation):
    (engine_id,) = it.add("r")
    it.processor.abort("r")
    assert it.step(SequenceUpdate(engine_id, it.ids("a"))) == ProcessedUpdates()


def test_an_abort_of_what_is_not_there_is_nothing(it: Conversation):
    assert it.processor.abort("r") is None
    (engine_id,) = it.add("r")
    it.push(engine_id, it.ids("a"), finish_reason="length")
    assert it.processor.abort("r") is None


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
