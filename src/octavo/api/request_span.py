"""What a trace tells of one request, in the words of OpenTelemetry's conventions for generative AI and of vLLM.

One span for the HTTP request; below it ``queue``, ``prefill`` and ``decode`` of each engine request, made afterwards
from its timing. See https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from octavo.api.errors import error_body
from octavo.errors import OctavoError
from octavo.observe.request_timing import RequestTiming, combine_timings

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from octavo.api.generation_record import GenerationRecord
    from octavo.engine.sampling_params import SamplingParams
    from octavo.observe.tracing import Tracing

CLIENT_GONE = "client_disconnected"
ABORTED = "aborted"
_NS = 1_000_000_000
_propagator = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Ending:
    """How an HTTP request ended.

    Attributes:
        status: of the answer; 0 if none was begun.
        error_code: the ``code`` of an error answer, if it has one.
        error_message: the message of an error answer.
        failure: what escaped from the route, if something did.
        is_client_gone: whether the client closed the connection.
    """

    status: int
    error_code: str | None = None
    error_message: str = ""
    failure: Exception | None = None
    is_client_gone: bool = False


class RequestSpan:
    """The span of one HTTP request, from its headers to its end.

    All times of a request are those of one clock, so that its spans lie inside each other.
    """

    def __init__(
        self, tracing: Tracing, operation: str, headers: Mapping[str, str], attributes: Mapping[str, AttributeValue]
    ) -> None:
        self._tracing = tracing
        self._operation = operation
        self._started_at = time.monotonic()
        self._unix_minus_monotonic_ns = time.time_ns() - time.monotonic_ns()
        self.span: Span = tracing.tracer.start_span(
            operation,
            context=_propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"gen_ai.operation.name": operation, "gen_ai.provider.name": "octavo", **attributes},
            start_time=self._unix_ns(self._started_at),
        )

    @property
    def ids(self) -> dict[str, str]:
        """``trace_id`` and ``span_id`` in hexadecimal digits; none where the environment switches tracing off."""
        context = self.span.get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def end(
        self, records: Sequence[GenerationRecord], ending: Ending, model: str, messages: Sequence[object] | None
    ) -> None:
        """Write all that is known, make the spans below this one, and end it.

        Args:
            records: the engine requests.
            model: the name that the request used for the model.
            messages: the messages of a chat request, if content may be in traces and they are known.
        """
        span = self.span
        if span.is_recording():
            if records:
                span.update_name(f"{self._operation} {model}")
            span.set_attribute("gen_ai.request.model", _utf8(model))
            span.set_attributes(dict(_attributes(records, model)))
            if ending.status:
                span.set_attribute("http.response.status_code", ending.status)
            if self._tracing.with_content:
                span.set_attributes(_content(records, messages))
            self._write_error(records, ending)
            for index, record in enumerate(records):
                if record.was_accepted:
                    self._write_phases(record.timing, index if len(records) > 1 else None)
        span.end(self._unix_ns(time.monotonic()))

    def _write_phases(self, timing: RequestTiming, index: int | None) -> None:
        end = timing.finished_at if timing.finished_at is not None else time.monotonic()
        phases: list[tuple[str, float | None, float | None, dict[str, AttributeValue]]] = [
            ("queue", max(timing.arrived_at, self._started_at), timing.first_scheduled_at, {}),
            (
                "prefill",
                timing.first_scheduled_at,
                timing.first_token_at,
                {
                    "gen_ai.usage.input_tokens": timing.num_prompt_tokens,
                    "gen_ai.usage.cache_read.input_tokens": timing.num_cached_tokens,
                    "octavo.prefill.chunks": timing.num_prefill_chunks,
                },
            ),
            ("decode", timing.first_token_at, end, {"gen_ai.usage.output_tokens": timing.num_output_tokens}),
        ]
        context = set_span_in_context(self.span)
        for name, started_at, ended_at, attributes in phases:
            if started_at is None:
                break
            if index is not None:
                attributes["octavo.prompt.index"] = index
            phase = self._tracing.tracer.start_span(
                name, context=context, attributes=attributes, start_time=self._unix_ns(started_at)
            )
            phase.end(self._unix_ns(end if ended_at is None else ended_at))
        for at in timing.preempted_at:
            self.span.add_event("preempted", timestamp=self._unix_ns(at))

    def _write_error(self, records: Sequence[GenerationRecord], ending: Ending) -> None:
        """Say what went wrong. What a client did wrong is named but is no error of this span, as HTTP's rules say."""
        error = ending.failure or next((record.error for record in records if record.error is not None), None)
        if error is not None:
            self._write_exception(error)
        elif ending.status == 499 or any(record.is_aborted for record in records):
            is_client_gone = ending.is_client_gone or ending.status == 499
            reason = "the client closed the connection" if is_client_gone else "the request was aborted"
            self._set_error(CLIENT_GONE if is_client_gone else ABORTED, f"{reason} before the answer was complete")
        elif ending.status >= 500:
            self._set_error(ending.error_code or str(ending.status), ending.error_message)
        elif ending.status >= 400:
            self.span.set_attribute("error.type", ending.error_code or str(ending.status))

    def _write_exception(self, error: Exception) -> None:
        """Record an exception; messages of others than our own may repeat what a user wrote."""
        status, body, _ = error_body(error)
        error_type = body.code or str(status) if isinstance(error, OctavoError) else type(error).__qualname__
        if status < 500:
            self.span.set_attribute("error.type", error_type)
            return
        may_tell = isinstance(error, OctavoError) or self._tracing.with_content
        message = str(error) if may_tell else type(error).__qualname__
        attributes: dict[str, AttributeValue] = {
            "exception.type": f"{type(error).__module__}.{type(error).__qualname__}",
            "exception.stacktrace": "".join(traceback.format_tb(error.__traceback__)),
        }
        if may_tell:
            attributes["exception.message"] = message
        self.span.add_event("exception", attributes)
        self._set_error(error_type, message)

    def _set_error(self, error_type: str, description: str) -> None:
        self.span.set_attribute("error.type", error_type)
        self.span.set_status(Status(StatusCode.ERROR, description))

    def _unix_ns(self, monotonic_s: float) -> int:
        return int(monotonic_s * _NS) + self._unix_minus_monotonic_ns


def _attributes(records: Sequence[GenerationRecord], model: str) -> Iterator[tuple[str, AttributeValue]]:
    if not records:
        return
    yield "gen_ai.response.model", model
    yield "gen_ai.response.id", records[0].request_id.rpartition("-")[0]
    yield from _parameters(records[0].params)
    if records[0].is_streamed:
        yield "gen_ai.request.stream", True
    if reasons := [reason for record in records for reason in record.ends]:
        yield "gen_ai.response.finish_reasons", reasons
    if timings := [record.timing for record in records if record.was_accepted]:
        timing = combine_timings(timings)
        yield "gen_ai.usage.input_tokens", timing.num_prompt_tokens
        yield "gen_ai.usage.cache_read.input_tokens", timing.num_cached_tokens
        yield "gen_ai.usage.output_tokens", timing.num_output_tokens
        yield from _latencies(timing)


def _parameters(params: SamplingParams) -> Iterator[tuple[str, AttributeValue]]:
    yield "gen_ai.request.temperature", params.temperature
    yield "gen_ai.request.top_p", params.top_p
    optional: dict[str, AttributeValue | None] = {
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.top_k": params.top_k or None,
        "gen_ai.request.seed": params.seed,
        "gen_ai.request.frequency_penalty": params.frequency_penalty or None,
        "gen_ai.request.presence_penalty": params.presence_penalty or None,
        "gen_ai.request.choice.count": params.n if params.n > 1 else None,
    }
    yield from ((name, value) for name, value in optional.items() if value is not None)


def _latencies(timing: RequestTiming) -> Iterator[tuple[str, AttributeValue]]:
    """vLLM's names; in seconds."""
    known = {
        "gen_ai.latency.time_in_queue": timing.queue_s,
        "gen_ai.latency.time_to_first_token": timing.ttft_s,
        "gen_ai.latency.e2e": timing.e2e_s,
        "gen_ai.latency.time_in_model_prefill": timing.prefill_s,
        "gen_ai.latency.time_in_model_decode": timing.decode_s,
        "gen_ai.latency.time_in_model_inference": timing.inference_s,
    }
    yield from ((name, seconds) for name, seconds in known.items() if seconds is not None)


def _content(records: Sequence[GenerationRecord], messages: Sequence[object] | None) -> dict[str, AttributeValue]:
    """Write prompts and outputs in the conventions' schema, as JSON."""
    outputs = [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": text}],
            "finish_reason": record.finish_reasons.get(index, "error"),
        }
        for record in records
        for index, text in sorted(record.texts.items())
    ]
    content = {"gen_ai.input.messages": messages, "gen_ai.output.messages": outputs}
    return {name: _json(value) for name, value in content.items() if value}


def _json(value: object) -> str:
    return _utf8(json.dumps(value, ensure_ascii=False))


def _utf8(text: str) -> str:
    """Replace lone surrogates: one of them, and a whole batch of spans could not be encoded."""
    return text.encode(errors="replace").decode()
