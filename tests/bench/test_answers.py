"""Answers of several servers are read as what they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from octavo.bench.answers import Answer, error_message


def events(*bodies: dict[str, Any] | str) -> bytes:
    return b"".join(f"data: {b if isinstance(b, str) else json.dumps(b)}\n\n".encode() for b in bodies)


def delta(**fields: Any) -> dict[str, Any]:
    finish_reason = fields.pop("finish_reason", None)
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


def test_only_pieces_with_text_have_a_time() -> None:
    answer = Answer()
    answer.read_stream(events(delta(role="assistant", content="")), 1.0)
    answer.read_stream(events(delta(content="a"), delta(content="b")), 2.0)
    answer.read_stream(events(delta(reasoning_content="c")), 3.0)
    answer.read_stream(events(delta(reasoning="d")), 4.0)
    answer.read_stream(events(delta(tool_calls=[{"index": 0}])), 5.0)
    answer.read_stream(events(delta(finish_reason="stop"), {"choices": [], "usage": None}), 6.0)
    answer.read_stream(events("[DONE]"), 7.0)
    answer.end_stream(7.0)
    assert answer.chunk_times == [2.0, 2.0, 3.0, 4.0, 5.0]
    assert answer.text == "abcd"
    assert answer.error is None


def test_usage_may_lack_what_not_all_servers_count() -> None:
    answer = Answer()
    choice = {"text": "a", "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": None, "queue_time": 0.1}
    answer.read_whole(json.dumps({"choices": [choice], "usage": usage}).encode())
    assert (answer.input_tokens, answer.output_tokens, answer.cached_tokens) == (5, 1, 0)
    assert answer.error is None


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (events(delta(content="a")), "ended before the answer was finished"),
        (events(delta(content="a"), {"error": {"message": "engine died"}}), "engine died"),
        (events("{oops"), "not understood"),
        (b"", "ended before"),
    ],
)
def test_broken_stream_is_an_error(stream: bytes, message: str) -> None:
    answer = Answer()
    answer.read_stream(stream, 1.0)
    answer.end_stream(1.0)
    assert answer.error == "stream"
    assert message in answer.error_message


def test_body_that_is_no_answer_is_an_error() -> None:
    answer = Answer()
    answer.read_whole(b'{"hello": "world"}')
    assert answer.error == "stream"
    assert '{"hello": "world"}' in answer.error_message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "a", "type": "b"}}', "a"),
        (b'{"error": "a"}', "a"),
        (b'{"object": "error", "message": "a"}', "a"),
        (b'{"detail": "a"}', "a"),
        (b'{"detail": [{"loc": 1}]}', '{"detail": [{"loc": 1}]}'),
        (b"<html>no</html>", "<html>no</html>"),
        (b"", "(nothing)"),
    ],
)
def test_error_is_found_in_the_shapes_that_servers_give_it(body: bytes, message: str) -> None:
    assert error_message(body) == message
