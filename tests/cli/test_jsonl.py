"""Lines of a JSONL file become jobs, or errors that say what is wrong with the line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.cli.jsonl import Job, Refused, error_of, in_chunks, make_params, read_jobs, result_of
from octavo.engine.outputs import CompletionOutput, RequestOutput
from octavo.engine.sampling_params import SamplingParams
from octavo.errors import RequestError

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def read(line: str, **defaults: object) -> Job | Refused:
    (job,) = read_jobs([line], defaults)
    return job


def test_fields_of_the_line_go_before_the_defaults():
    job = read('{"prompt": "a", "max_tokens": 3, "stop": "b"}', max_tokens=7, top_k=5)
    assert isinstance(job, Job)
    assert job.params == SamplingParams(max_tokens=3, top_k=5, stop=["b"])


def test_prompts_and_conversations_are_told_apart():
    assert not read('{"prompt": "a"}').is_chat
    assert read('{"messages": [{"role": "user", "content": "a"}]}').is_chat


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 is not a JSON object"),
        ("{}", "either 'prompt' or 'messages'"),
        ('{"prompt": "a", "messages": []}', "not both"),
        ('{"prompt": 3}', "'prompt' must be a text, not int"),
        ('{"messages": "a"}', "'messages' must be a list"),
        ('{"messages": []}', "not empty"),
        ('{"messages": [{"content": "a"}]}', "'role'"),
        (
            '{"prompt": "a", "temperatur": 1}',
            "there is no sampling parameter 'temperatur'; did you mean 'temperature'?",
        ),
        ('{"prompt": "a", "max_tokens": "7"}', "Expected `int | null`, got `str` in `max_tokens`"),
        ('{"prompt": "a", "top_p": 2}', "top_p must be above 0 and at most 1, not 2.0"),
    ],
)
def test_a_wrong_line_is_refused_with_the_reason(line, reason):
    refused = read(line)
    assert isinstance(refused, Refused)
    assert reason in refused.error


@settings(deadline=None)  # the machine may be busy
@given(st.lists(ANYTHING | st.fixed_dictionaries({"prompt": ANYTHING}, optional={"n": ANYTHING, "id": ANYTHING})))
def test_every_line_gives_one_job_or_one_error_in_order(values):
    jobs = list(read_jobs((json.dumps(value) + "\n" for value in values), {}))
    assert len(jobs) == len(values)
    for value, job in zip(values, jobs, strict=True):
        if isinstance(value, dict):
            assert job.record == value


def test_empty_lines_are_passed_over_but_counted():
    (refused,) = read_jobs(["\n", "  \n", "x\n"], {})
    assert refused.record == {"line": 3}


def test_chunks_hold_all_jobs_in_order():
    jobs = list(read_jobs(['{"prompt": "a"}'] * 7, {}))
    assert [len(chunk) for chunk in in_chunks(iter(jobs), 3)] == [3, 3, 1]


def test_results_keep_the_fields_of_the_line_and_replace_earlier_results():
    job = read('{"id": 7, "prompt": "a", "outputs": "old", "error": "old"}')
    output = RequestOutput("1", "a", [1], [CompletionOutput(0, "b", [2, 3], finish_reason="stop")], finished=True)
    assert result_of(job, output) == {
        "id": 7,
        "prompt": "a",
        "outputs": [{"text": "b", "finish_reason": "stop", "num_tokens": 2}],
    }
    assert error_of(Refused(job.record, "new")) == {"id": 7, "prompt": "a", "error": "new"}


def test_sampling_parameters_of_the_wrong_type_are_our_own_error():
    with pytest.raises(RequestError, match="Expected `float`, got `str` in `temperature`"):
        make_params({"temperature": "hot"})
