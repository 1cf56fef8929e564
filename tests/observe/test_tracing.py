"""Spans reach a collector over both protocols, and one that is away costs nothing but its spans."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

from octavo.observe.tracing import TracingError, start_tracing
from tests.observe.otlp_collector import attributes, grpc_collector, http_collector
from tests.server_process import free_port

HTTP = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_what_waits_is_sent_at_the_end(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=Bearer%20secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with (grpc_collector if protocol == "grpc" else http_collector)() as collector:
        tracing = start_tracing(collector.endpoint)
        tracing.tracer.start_span("chat").end()
        assert tracing.shutdown(20)
    assert [span.name for span in collector.spans] == ["chat"]
    assert collector.resources[0]["service.name"] == "octavo"
    assert collector.headers["authorization"] == "Bearer secret"
    assert collector.path == ("" if protocol == "grpc" else "/v1/traces")


def test_the_protocol_of_all_signals_counts_and_a_given_path_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    with http_collector() as collector:
        tracing = start_tracing(f"{collector.endpoint}/custom/v1/traces")
        tracing.tracer.start_span("chat").end()
        assert tracing.shutdown(20)
    assert collector.path == "/custom/v1/traces"


def test_the_service_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-service")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    with grpc_collector() as collector:
        tracing = start_tracing(collector.endpoint)
        tracing.tracer.start_span("chat").end()
        assert tracing.shutdown(20)
    assert collector.resources[0]["service.name"] == "my-service"
    assert collector.resources[0]["deployment.environment"] == "test"


@pytest.mark.parametrize("environ", [{}, HTTP])
def test_a_collector_that_is_away_delays_the_end_only_so_much(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    tracing = start_tracing(f"http://127.0.0.1:{free_port()}")
    for _ in range(5000):  # more than the queue holds: the rest is dropped, nobody waits
        tracing.tracer.start_span("chat").end()
    started_at = time.monotonic()
    assert not tracing.shutdown(0.5)
    assert time.monotonic() - started_at < 10
    messages = [record.msg for record in caplog.records if record.name.startswith("opentelemetry")]
    # Each is said once, not with every batch; and once more if a minute of the clock ends meanwhile.
    assert max(Counter(messages).values()) <= 2


@pytest.mark.parametrize(
    ("endpoint", "environ", "said"),
    [
        ("", {}, "''"),
        ("http://", {}, "http://localhost:4317"),
        ("collector", {}, "'collector'"),
        ("localhost:4318", HTTP, "http://localhost:4318/v1/traces"),
        ("http://localhost:99999", {}, "99999"),
        ("http://me:secret@localhost:4317", {}, "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
        ("http://localhost:4317", {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "http/json"),
    ],
)
def test_wrong_settings_are_said(endpoint: str, environ: dict[str, str], said: str) -> None:
    with pytest.raises(TracingError) as caught:
        start_tracing(endpoint, environ=environ)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_wrong_variable_of_the_sdk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    with pytest.raises(TracingError, match="soon"):
        start_tracing("http://localhost:4317")


def test_vllm_spelling_without_a_scheme_is_taken() -> None:
    with grpc_collector() as collector:
        tracing = start_tracing(collector.endpoint.removeprefix("http://"))
        assert tracing.shutdown(20)


def test_without_the_extra_it_says_which_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(TracingError, match=r"pip install 'octavo\[otel\]'"):
        start_tracing("http://localhost:4317")


def test_nothing_of_opentelemetry_is_imported_before_it_is_wanted() -> None:
    program = (
        "import json, sys, octavo.observe.tracing, octavo.api.lifecycle; "
        "print(json.dumps([name for name in sys.modules if name.startswith('opentelemetry')]))"
    )
    loaded: Any = json.loads(subprocess.check_output([sys.executable, "-c", program]))
    assert loaded == []


def test_a_collector_reads_back_what_was_written() -> None:
    with grpc_collector() as collector:
        tracing = start_tracing(collector.endpoint)
        tracing.tracer.start_span("x", attributes={"a": 1, "b": ["c"], "d": 0.5, "e": True}).end()
        assert tracing.shutdown(20)
    assert attributes(collector.spans[0]) == {"a": 1, "b": ["c"], "d": 0.5, "e": True}
