"""Traces of a real server as a real collector gets them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.observe.otlp_collector import Collector, attributes, grpc_collector, http_collector
from tests.server_process import ServerProcess, free_port

CHAT = {"messages": [{"role": "user", "content": "a secret"}], "max_tokens": 5, "temperature": 0, "ignore_eos": True}
PHASES = ["decode", "prefill", "queue"]
SETTINGS = {"kv_cache_memory_bytes": "64MiB", "max_model_len": 1024, "log_format": "json"}


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield patch


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with grpc_collector() as running:
        yield running


@pytest.fixture(scope="module")
def server(patched: pytest.MonkeyPatch, collector: Collector) -> Iterator[ServerProcess]:
    settings = {**SETTINGS, "served_model_name": ["nano", "alias"], "log_level": "debug", "enable_log_outputs": True}
    with ServerProcess(otlp_traces_endpoint=collector.endpoint, **settings) as running:
        yield running


@pytest.fixture
def traced(server: ServerProcess, collector: Collector) -> Collector:
    """The collector, empty at the start of a test."""
    collector.spans.clear()
    return collector


def post(server: ServerProcess, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=60)


def tree(collector: Collector, count: int) -> tuple[Span, list[Span]]:
    """Wait for the spans of one request; return the outermost one and those below it."""
    found = collector.wait_for(count)
    (root,) = [span for span in found if span.kind == Span.SPAN_KIND_SERVER]
    return root, [span for span in found if span is not root]


def test_a_chat_is_a_tree_of_spans_that_lie_inside_each_other(server: ServerProcess, traced: Collector) -> None:
    before = time.time_ns()
    answer = post(server, "/v1/chat/completions", {**CHAT, "model": "alias"}, **{"x-request-id": "find-me"}).json()
    root, children = tree(traced, 4)
    assert root.name == "chat alias"
    assert sorted(child.name for child in children) == PHASES
    assert before <= root.start_time_unix_nano < root.end_time_unix_nano <= time.time_ns()
    in_order = sorted(children, key=lambda child: child.start_time_unix_nano)
    assert [child.name for child in in_order] == ["queue", "prefill", "decode"]
    for child in children:
        assert child.parent_span_id == root.span_id
        assert child.trace_id == root.trace_id
        assert child.start_time_unix_nano <= child.end_time_unix_nano
        assert root.start_time_unix_nano <= child.start_time_unix_nano
        assert child.end_time_unix_nano <= root.end_time_unix_nano
    found = attributes(root)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "alias",
        "gen_ai.request.id": "find-me",
        "gen_ai.response.id": answer["id"],
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.request.max_tokens": 5,
        "gen_ai.usage.input_tokens": answer["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": answer["usage"]["completion_tokens"],
        "server.address": "127.0.0.1",
        "server.port": int(server.url.rpartition(":")[2]),
        "http.response.status_code": 200,
    }
    assert {name: found[name] for name in expected} == expected
    duration_s = (root.end_time_unix_nano - root.start_time_unix_nano) / 1e9
    assert 0 < found["gen_ai.latency.time_to_first_token"] <= found["gen_ai.latency.e2e"] <= duration_s
    assert traced.resources[-1]["service.name"] == "octavo"


def test_content_is_not_in_the_spans(server: ServerProcess, traced: Collector) -> None:
    answer = post(server, "/v1/chat/completions", CHAT).json()
    text = answer["choices"][0]["message"]["content"]
    written = b"".join(span.SerializeToString() for span in traced.wait_for(4))
    assert b"secret" not in written
    assert text.encode() not in written


def test_a_caller_is_the_parent_and_its_wish_not_to_be_sampled_holds(server: ServerProcess, traced: Collector) -> None:
    unsampled = {"traceparent": "00-11111111111111111111111111111111-b7ad6b7169203331-00"}
    sampled = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1,b=2"}
    post(server, "/v1/chat/completions", CHAT, **unsampled)
    post(server, "/v1/chat/completions", CHAT, **sampled)
    root, children = tree(traced, 4)
    assert {span.trace_id.hex() for span in (root, *children)} == {"0af7651916cd43dd8448eb211c80319c"}
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    assert root.trace_state == "a=1,b=2"


def test_a_stream_of_several_prompts_has_phases_for_each(server: ServerProcess, traced: Collector) -> None:
    body = {"prompt": ["one", "two"], "max_tokens": 3, "stream": True, "ignore_eos": True}
    assert post(server, "/v1/completions", body).text.endswith("data: [DONE]\n\n")
    root, children = tree(traced, 7)
    assert root.name == "text_completion nano"
    assert sorted(child.name for child in children) == sorted(PHASES * 2)
    assert attributes(root)["gen_ai.request.stream"] is True
    assert attributes(root)["gen_ai.usage.output_tokens"] == 6


@pytest.mark.parametrize(
    ("change", "status", "error_type"),
    [
        ({"max_tokens": "many"}, 400, "400"),
        ({"model": "x" * 1000}, 404, "model_not_found"),
        ({"messages": [{"role": "user", "content": "a secret " * 2000}]}, 400, "context_length_exceeded"),
    ],
)
def test_a_refused_request_names_the_reason(
    server: ServerProcess, traced: Collector, change: dict[str, Any], status: int, error_type: str
) -> None:
    assert post(server, "/v1/chat/completions", {**CHAT, **change}).status_code == status
    (root,) = traced.wait_for(1)
    assert attributes(root)["error.type"] == error_type
    assert attributes(root)["http.response.status_code"] == status
    assert root.status.code == Status.STATUS_CODE_UNSET
    assert b"secret" not in root.SerializeToString()
    assert len(attributes(root)["gen_ai.request.model"]) <= 128


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_leaves_an_error_span(server: ServerProcess, traced: Collector, stream: bool) -> None:
    body = {"prompt": "once", "max_tokens": 900, "ignore_eos": True, "stream": stream}
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
        content = json.dumps(body).encode()
        head = ["POST /v1/completions HTTP/1.1", "host: x", "content-type: application/json"]
        head.append(f"content-length: {len(content)}")
        client.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + content)
        time.sleep(0.5)  # it has begun to answer
    root, children = tree(traced, 4)
    assert root.status.code == Status.STATUS_CODE_ERROR
    assert attributes(root)["error.type"] == "client_disconnected"
    assert attributes(root)["gen_ai.response.finish_reasons"] == ["abort"]
    assert sorted(child.name for child in children) == PHASES
    assert all(child.end_time_unix_nano <= root.end_time_unix_nano for child in children)


def test_other_routes_make_no_spans(server: ServerProcess, traced: Collector) -> None:
    httpx.get(f"{server.url}/v1/models")
    httpx.get(f"{server.url}/v1/chat/completions")
    post(server, "/tokenize", {"prompt": "x"})
    post(server, "/v1/completions", {"prompt": "x", "max_tokens": 1})
    assert tree(traced, 4)[0].name == "text_completion nano"


def test_log_lines_of_a_request_name_its_trace(server: ServerProcess, traced: Collector) -> None:
    post(server, "/v1/completions", {"prompt": "a secret", "max_tokens": 1}, **{"x-request-id": "req-7"})
    root, _ = tree(traced, 4)
    lines = [json.loads(line) for line in server.logs.splitlines() if line.startswith("{")]
    (access,) = [line for line in lines if line["logger"] == "octavo.api.access" and line["request_id"] == "req-7"]
    assert (access["trace_id"], access["span_id"]) == (root.trace_id.hex(), root.span_id.hex())
    assert (access["status"], access["path"]) == (200, "/v1/completions")
    (end,) = [line for line in lines if line["logger"] == "octavo.api.requests" and line["request_id"] == "req-7"]
    assert (end["trace_id"], end["num_output_tokens"]) == (root.trace_id.hex(), 1)
    assert any(line["process"] == "engine" for line in lines)
    assert "secret" not in server.logs


def test_an_engine_that_dies_leaves_its_cause_in_the_span(server: ServerProcess, traced: Collector) -> None:
    body = {"prompt": "once", "max_tokens": 900, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as response:
        events = response.iter_lines()
        next(events)
        engine_ids = subprocess.check_output(["pgrep", "-P", str(server.pid)], text=True).split()
        for engine_id in engine_ids:
            os.kill(int(engine_id), signal.SIGKILL)
        assert any('"error"' in line for line in events)
    root, children = tree(traced, 4)
    assert sorted(child.name for child in children) == PHASES
    assert root.status.code == Status.STATUS_CODE_ERROR
    assert "SIGKILL" in root.status.message
    assert attributes(root)["error.type"] == "engine_dead"
    (event,) = root.events
    assert "SIGKILL" in attributes(event)["exception.message"]
    server.wait_ready()


def test_content_is_there_if_it_may_be_and_the_last_spans_are_sent_at_the_end(patched: pytest.MonkeyPatch) -> None:
    with http_collector() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        settings = {**SETTINGS, "otlp_traces_endpoint": collector.endpoint, "otlp_traces_content": True}
        with ServerProcess(**settings) as server:
            answer = post(server, "/v1/chat/completions", CHAT).json()
            assert collector.spans == []
            assert server.stop() == 0
        root, children = tree(collector, 4)
    assert sorted(child.name for child in children) == PHASES
    found = attributes(root)
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "a secret"}]}
    ]
    (output,) = json.loads(found["gen_ai.output.messages"])
    assert output["parts"][0]["content"] == answer["choices"][0]["message"]["content"]


def test_preemptions_are_events_of_the_request() -> None:
    tight = {"kv_cache_memory_bytes": "1MiB", "max_model_len": 150, "cpu_threads": 1}  # 20 blocks, and 28 are wanted
    body = {"prompt": "once upon a time", "n": 4, "max_tokens": 100, "ignore_eos": True}
    with grpc_collector() as collector, ServerProcess(otlp_traces_endpoint=collector.endpoint, **tight) as server:
        assert post(server, "/v1/completions", body).status_code == 200
        num_preemptions = server.metrics()["octavo_num_preemptions_total"]
        server.stop()
        root, children = tree(collector, 4)
    assert num_preemptions > 0
    assert [event.name for event in root.events] == ["preempted"] * int(num_preemptions)
    first = {child.name: child for child in children}["prefill"].start_time_unix_nano
    assert all(first <= event.time_unix_nano <= root.end_time_unix_nano for event in root.events)


def test_a_collector_that_is_away_disturbs_nobody(patched: pytest.MonkeyPatch) -> None:
    with ServerProcess(otlp_traces_endpoint=f"http://127.0.0.1:{free_port()}", **SETTINGS) as server:
        for _ in range(3):
            assert post(server, "/v1/chat/completions", CHAT).status_code == 200
        started_at = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_at < 20


def test_an_endpoint_that_is_none_is_told_in_one_line() -> None:
    command = [sys.executable, "-m", "octavo", "serve", "--otlp-traces-endpoint", "nowhere", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "otlp_traces_endpoint 'nowhere'" in done.stderr
