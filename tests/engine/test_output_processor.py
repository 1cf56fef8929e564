"""From token ids to what a user sees, over a real tokenizer and without an engine."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.engine.messages import SequenceUpdate, TokenLogprobs
from octavo.engine.output_processor import ProcessedUpdates
from octavo.engine.sampling_params import RequestOutputKind
from octavo.errors import RequestError
from octavo.text import Tokenizer
from tests.engine.conversation import Conversation

CUMULATIVE, DELTA, FINAL_ONLY = RequestOutputKind
EOS = 317


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
