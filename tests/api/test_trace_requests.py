"""The middleware that makes spans, around a made application: it reads along and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from octavo.api.errors import HTTPError, answer_octavo_error
from octavo.api.middleware import BodyLimit, RequestContext
from octavo.api.tracing import TraceRequests
from octavo.observe.log_context import log_fields
from octavo.observe.tracing import Tracing

PATH = "/v1/chat/completions"


class Traced:
    """An application with one route, and the spans of its requests."""

    def __init__(self, *, with_content: bool = False) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        app = FastAPI()

        @app.post(PATH)
        async def route(request: Request) -> Any:
            body = await request.body()
            if b"broken" in body:
                raise RuntimeError("a secret of the inside")
            return {"length": len(body), "context": dict(log_fields())}

        app.add_exception_handler(HTTPError, answer_octavo_error)
        app.add_middleware(BodyLimit, max_request_bytes=1000)
        app.add_middleware(RequestContext)
        tracing = Tracing(provider, self.exporter, with_content=with_content)
        app.add_middleware(TraceRequests, tracing=tracing, names=["nano"], max_request_bytes=1000)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    async def post(self, content: Any) -> tuple[httpx.Response, ReadableSpan]:
        response = await self.http.post(PATH, content=content, headers={"x-request-id": "abc-1"})
        (span,) = self.exporter.get_finished_spans()
        return response, span


async def test_a_request_and_its_answer_pass_unchanged() -> None:
    response, span = await Traced().post(b'{"model": "nano"}')
    assert response.json()["length"] == 17
    found = dict(span.attributes or {})
    assert (found["gen_ai.request.id"], found["gen_ai.request.model"]) == ("abc-1", "nano")
    assert (found["http.request.method"], found["http.route"]) == ("POST", PATH)
    assert span.status.status_code is StatusCode.UNSET


async def test_log_lines_within_it_name_the_span() -> None:
    response, span = await Traced().post(b"{}")
    assert response.json()["context"] == {
        "request_id": "abc-1",
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
    }


async def test_tracing_that_the_environment_switches_off_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traced = Traced()
    response = await traced.http.post(PATH, content=b"{}", headers={"x-request-id": "abc-1"})
    assert response.json()["context"] == {"request_id": "abc-1"}
    assert traced.exporter.get_finished_spans() == ()


async def test_an_error_that_escapes_is_recorded() -> None:
    response, span = await Traced().post(b"broken")
    assert response.status_code == 500
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "RuntimeError"
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"model": 5}', b'{"model": null}', b"[" * 900])
@pytest.mark.parametrize("with_content", [True, False])
async def test_a_body_of_any_kind_is_taken(content: bytes, with_content: bool) -> None:
    response, span = await Traced(with_content=with_content).post(content)
    assert response.status_code == 200
    assert dict(span.attributes or {})["gen_ai.request.model"] == "nano"


async def test_a_body_above_the_limit_is_not_kept() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"model": "big", "messages": "'
        for _ in range(100):
            yield b"x" * 50

    response, span = await Traced().post(chunks())
    assert response.status_code == 413
    found = dict(span.attributes or {})
    assert (found["error.type"], found["gen_ai.request.model"]) == ("request_too_large", "nano")
