"""Traces of both forms are read as they were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.bench.traces import TraceRequest, clip_trace, read_trace
from octavo.errors import ConfigError

_CSV = """TIMESTAMP,ContextTokens,GeneratedTokens\r
2023-11-16 18:15:46.6805900,374,44\r
2023-11-16 18:15:50.9951690,396,109\r
2023-11-16 18:15:48.6805900,1,0
2023-11-16 18:16:46.6805900,2000,7"""


def test_csv_is_read_by_time_from_its_first_request(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(_CSV, newline="")
    requests = read_trace(path)
    assert [request.arrival_s for request in requests] == pytest.approx([0, 2, 4.314579, 60], abs=1e-6)
    assert [(request.input_tokens, request.output_tokens) for request in requests] == [
        (374, 44),
        (1, 1),
        (396, 109),
        (2000, 7),
    ]


def test_slice_begins_at_its_first_request_and_speed_divides_the_times(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(_CSV, newline="")
    requests = read_trace(path, start_s=2, max_requests=2, speed=2)
    assert [request.arrival_s for request in requests] == pytest.approx([0, 2.314579 / 2], abs=1e-6)


def test_mooncake_lines_keep_their_blocks_whatever_the_name_of_the_file(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 27000, "input_length": 1030, "output_length": 3, "hash_ids": [4, 5, 9]},
        {"timestamp": 30000, "input_length": 512, "output_length": 1, "hash_ids": [4]},
        {"timestamp": 31000, "input_length": 7, "output_length": 1},
    ]
    for name in ("trace.jsonl", "trace"):
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
        assert read_trace(path) == [
            TraceRequest(0.0, 1030, 3, (4, 5, 9)),
            TraceRequest(3.0, 512, 1, (4,)),
            TraceRequest(4.0, 7, 1, None),
        ]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ((600, 400), (600, 400)),
        ((4000, 10), (990, 10)),
        ((10, 4000), (10, 990)),
        ((4000, 4000), (500, 500)),
    ],
)
def test_long_request_is_shortened_where_it_is_long(request_: tuple[int, int], expected: tuple[int, int]) -> None:
    (clipped,), num_clipped = clip_trace([TraceRequest(0, *request_)], 1000)
    assert (clipped.input_tokens, clipped.output_tokens) == expected
    assert num_clipped == (request_ != expected)


def test_shortened_request_keeps_the_blocks_that_it_still_has() -> None:
    (clipped,), _ = clip_trace([TraceRequest(0, 2000, 1, (1, 2, 3, 4))], 1000)
    assert clipped.hash_ids == (1, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "a,b\n1,2", "must have the columns TIMESTAMP, ContextTokens, GeneratedTokens"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\nnever,1,2", "line 2: Invalid isoformat string: 'never'"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n1.5,-1,2", "line 2: a request has -1 input tokens"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no requests"),
        ("a.jsonl", '{"timestamp": 1, "input_length": "x"}', "line 1: "),
        ("a.jsonl", '{"timestamp": 1, "input_length": 513, "output_length": 1, "hash_ids": [1]}', "do not fit 513"),
        ("a.csv", "", "must have the columns"),
    ],
)
def test_wrong_file_is_told_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_trace(tmp_path / name)


def test_slice_after_the_end_and_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(_CSV, newline="")
    with pytest.raises(ConfigError, match="no requests after 100 s: it is 60 s long"):
        read_trace(tmp_path / "trace.csv", start_s=100)
    with pytest.raises(ConfigError, match="No such file"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="speed of a trace must be above 0"):
        read_trace(tmp_path / "trace.csv", speed=0)
