"""What a span says of a request, from made timings: phases, attributes, errors, and nothing of what was said."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from octavo.api.generation_record import GenerationRecord
from octavo.api.request_span import Ending, RequestSpan
from octavo.engine.outputs import CompletionOutput, RequestOutput
from octavo.engine.sampling_params import RequestOutputKind, SamplingParams
from octavo.errors import EngineDeadError, RequestError
from octavo.observe.request_timing import RequestTiming, SequenceEvent
from octavo.observe.tracing import Tracing

PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}
NS = 1e9


def finished(timing: RequestTiming | None = None, *, index: int = 0, **params: Any) -> GenerationRecord:
    """A request that was answered with two tokens."""
    record = GenerationRecord(f"cmpl-1-{index}", "a secret", SamplingParams(**params), timing or made_timing(), 100)
    output = CompletionOutput(index=0, text="hush", token_ids=[1, 2], finish_reason="length")
    record.add(RequestOutput(record.request_id, None, [5, 6, 7], [output], finished=True))
    return record


def unaccepted(prompt: Any = "a secret", error: Exception | None = None) -> GenerationRecord:
    """A request that the engine never had."""
    never = RequestTiming(arrived_at=time.monotonic(), arrived_at_unix=time.time())
    return GenerationRecord("cmpl-1-0", prompt, SamplingParams(), never, error=error)


def made_timing(**times: Any) -> RequestTiming:
    """Arrived after the span began, a second in the queue, two in prefill, three in decode."""
    now = time.monotonic() + 5
    known = {"first_scheduled_at": 1.0, "first_token_at": 3.0, "last_token_at": 6.0, "finished_at": 6.0, **times}
    return RequestTiming(
        arrived_at=now,
        arrived_at_unix=time.time(),
        num_prompt_tokens=3,
        num_cached_tokens=2,
        num_output_tokens=2,
        max_tokens=2,
        events=[
            SequenceEvent(now + 1, "scheduled"),
            SequenceEvent(now + 1, "prefill", num_tokens=2),
            SequenceEvent(now + 2, "prefill", num_tokens=1),
            SequenceEvent(now + 4, "preempted"),
        ],
        **{name: None if after is None else now + after for name, after in known.items()},
    )


def spans(
    records: Sequence[GenerationRecord],
    ending: Ending | None = None,
    *,
    headers: Mapping[str, str] = PARENT,
    with_content: bool = False,
    messages: list[Any] | None = None,
) -> dict[str, ReadableSpan]:
    """Trace one request with these records and return its spans by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = RequestSpan(Tracing(provider, exporter, with_content=with_content), "chat", headers, {})
    span.end(records, ending or Ending(200), "some/model", messages)
    return {span.name: span for span in exporter.get_finished_spans()}


def test_the_phases_are_children_that_follow_each_other() -> None:
    found = spans([finished(made_timing())])
    assert set(found) == {"chat some/model", "queue", "prefill", "decode"}
    root = found.pop("chat some/model")
    assert root.kind is SpanKind.SERVER
    assert {child.parent.span_id for child in found.values() if child.parent} == {root.context.span_id}
    queue, prefill, decode = (found[name] for name in ("queue", "prefill", "decode"))
    assert (queue.end_time, prefill.end_time) == (prefill.start_time, decode.start_time)
    seconds = [((child.end_time or 0) - (child.start_time or 0)) / NS for child in (queue, prefill, decode)]
    assert seconds == pytest.approx([1, 2, 3], abs=1e-6)
    assert (queue.start_time or 0) / NS == pytest.approx(time.time(), abs=60)


def test_what_the_conventions_and_vllm_name_is_there() -> None:
    root = spans([finished(made_timing(), max_tokens=2, temperature=0.5, top_p=0.9, top_k=3, seed=7, n=2)])[
        "chat some/model"
    ]
    found = dict(root.attributes or {})
    latencies = {name: found.pop(name) for name in list(found) if name.startswith("gen_ai.latency.")}
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "octavo",
        "gen_ai.request.model": "some/model",
        "gen_ai.response.model": "some/model",
        "gen_ai.response.id": "cmpl-1",
        "gen_ai.request.max_tokens": 2,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 3,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.output_tokens": 2,
        "http.response.status_code": 200,
    }
    assert latencies == pytest.approx(
        {
            "gen_ai.latency.time_in_queue": 1,
            "gen_ai.latency.time_to_first_token": 3,
            "gen_ai.latency.e2e": 6,
            "gen_ai.latency.time_in_model_prefill": 2,
            "gen_ai.latency.time_in_model_decode": 3,
            "gen_ai.latency.time_in_model_inference": 5,
        }
    )


def test_prefill_chunks_and_preemptions_are_told() -> None:
    found = spans([finished(made_timing())])
    assert dict(found["prefill"].attributes or {})["octavo.prefill.chunks"] == 2
    (event,) = found["chat some/model"].events
    assert event.name == "preempted"
    assert found["decode"].start_time < event.timestamp < found["decode"].end_time


def test_a_request_that_never_got_a_step_has_a_queue_only() -> None:
    never = made_timing(first_scheduled_at=None, first_token_at=None, last_token_at=None)
    found = spans([finished(never)])
    assert set(found) == {"chat some/model", "queue"}
    assert (found["queue"].end_time - found["queue"].start_time) / NS == pytest.approx(6, abs=1e-6)


def test_each_prompt_of_a_request_has_its_phases() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = RequestSpan(Tracing(provider, exporter, with_content=False), "chat", {}, {})
    span.end([finished(made_timing(), index=index) for index in range(2)], Ending(200), "m", None)
    indices = [
        (child.name, (child.attributes or {}).get("octavo.prompt.index")) for child in exporter.get_finished_spans()
    ]
    assert sorted(indices[:-1]) == [(name, index) for name in ("decode", "prefill", "queue") for index in (0, 1)]
    assert (exporter.get_finished_spans()[-1].attributes or {})["gen_ai.usage.output_tokens"] == 4


def test_the_callers_span_is_the_parent() -> None:
    root = spans([finished()])["chat some/model"]
    assert f"{root.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == "b7ad6b7169203331"
    assert root.context.trace_state.get("vendor") == "1"


def test_a_caller_that_does_not_sample_is_obeyed() -> None:
    assert spans([finished(made_timing())], headers={"traceparent": PARENT["traceparent"][:-1] + "0"}) == {}


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_broken_parent_is_none(traceparent: str) -> None:
    root = spans([finished()], headers={"traceparent": traceparent})["chat some/model"]
    assert root.parent is None


def test_the_cause_of_a_failure_is_recorded() -> None:
    with pytest.raises(EngineDeadError) as caught:
        raise EngineDeadError("the engine process was killed by SIGKILL")
    record = unaccepted(error=caught.value)
    root = spans([record], Ending(503, "engine_dead", "…"))["chat some/model"]
    assert root.status.status_code is StatusCode.ERROR
    assert root.status.description == "the engine process was killed by SIGKILL"
    assert (root.attributes or {})["error.type"] == "engine_dead"
    (event,) = root.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "octavo.errors.EngineDeadError"
    assert "test_the_cause_of_a_failure_is_recorded" in event.attributes["exception.stacktrace"]


def test_an_unexpected_failure_is_recorded_without_its_words() -> None:
    prompt = "a sec" + "ret"  # not as the line that a traceback shows
    with pytest.raises(ValueError, match="work") as caught:
        raise ValueError(f"cannot work with {prompt}")
    ending = Ending(500, "internal_error", "…", failure=caught.value)
    root = spans([], ending)["chat"]
    assert root.status.description == "ValueError"
    assert (root.attributes or {})["error.type"] == "ValueError"
    assert "secret" not in root.to_json()
    told = spans([], ending, with_content=True)["chat"]
    assert told.status.description == "cannot work with a secret"


@pytest.mark.parametrize(
    ("ending", "error_type"),
    [
        (Ending(400, None, "'a secret' is wrong"), "400"),
        (Ending(404, "model_not_found", "…"), "model_not_found"),
        (Ending(401, "invalid_api_key", "…"), "invalid_api_key"),
    ],
)
def test_what_a_client_did_wrong_is_named_but_no_error_of_the_server(ending: Ending, error_type: str) -> None:
    root = spans([], ending)["chat"]
    assert (root.attributes or {})["error.type"] == error_type
    assert root.status.status_code is StatusCode.UNSET
    assert "secret" not in root.to_json()


def test_a_prompt_that_the_engine_refused_is_the_clients_fault_too() -> None:
    record = unaccepted(error=RequestError("too long: a secret"))
    root = spans([record], Ending(400, "context_length_exceeded"))["chat some/model"]
    assert root.status.status_code is StatusCode.UNSET
    assert "secret" not in root.to_json()


def test_a_server_that_is_not_ready_is_an_error() -> None:
    root = spans([], Ending(503, "unavailable", "The model is being loaded."))["chat"]
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, "The model is being loaded.")


@pytest.mark.parametrize(("is_client_gone", "error_type"), [(True, "client_disconnected"), (False, "aborted")])
def test_an_answer_that_was_broken_off_is_an_error(is_client_gone: bool, error_type: str) -> None:
    record = GenerationRecord("cmpl-1-0", [1], SamplingParams(), made_timing())
    root = spans([record], Ending(200, is_client_gone=is_client_gone))["chat some/model"]
    assert root.status.status_code is StatusCode.ERROR
    assert (root.attributes or {})["error.type"] == error_type


def test_prompts_and_outputs_stay_out() -> None:
    found = spans(
        [finished(made_timing())], messages=[{"role": "user", "parts": [{"type": "text", "content": "a secret"}]}]
    )
    for span in found.values():
        assert "secret" not in span.to_json()
        assert "hush" not in span.to_json()


def test_prompts_and_outputs_are_there_if_they_may_be() -> None:
    messages = [{"role": "user", "parts": [{"type": "text", "content": "a secret \ud800 你好"}]}]
    attributes = (
        spans([finished(made_timing())], with_content=True, messages=messages)["chat some/model"].attributes or {}
    )
    assert json.loads(str(attributes["gen_ai.input.messages"]))[0]["parts"][0]["content"] == "a secret ? 你好"
    assert json.loads(str(attributes["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "hush"}], "finish_reason": "length"}
    ]


def test_a_streamed_answer_is_added_up() -> None:
    params = SamplingParams(output_kind=RequestOutputKind.DELTA)
    record = GenerationRecord("cmpl-1-0", [1], params, made_timing(), num_kept_chars=3)
    for text, reason in (("ab", None), ("cd", "stop")):
        piece = CompletionOutput(index=0, text=text, token_ids=[1], finish_reason=reason)  # type: ignore[arg-type]
        record.add(RequestOutput("cmpl-1-0", None, [1], [piece], finished=reason is not None, is_delta=True))
    attributes = spans([record], with_content=True)["chat some/model"].attributes or {}
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.usage.output_tokens"] == 2
    assert record.texts == {0: "abc"}
