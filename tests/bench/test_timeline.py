"""What happened when: concurrency, throughput and the bars of requests."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from octavo.bench.records import RequestRecord
from octavo.bench.summary import summarize
from octavo.bench.timeline import (
    concurrency_chart,
    concurrency_series,
    request_timeline,
    throughput_chart,
    throughput_series,
)
from tests.bench.made_up import made_up_records

SVG = "{http://www.w3.org/2000/svg}"


def record(index, sent_at, finished_at, chunk_times=(), **fields):
    return RequestRecord(
        index=index,
        scheduled_at=sent_at,
        sent_at=sent_at,
        finished_at=finished_at,
        chunk_times=list(chunk_times),
        **fields,
    )


def test_concurrency_counts_requests_under_way():
    series = concurrency_series([record(0, 0, 4), record(1, 1, 3), record(2, 4, 5)])
    assert np.column_stack([series.x, series.y]).tolist() == [[0, 1], [1, 2], [3, 1], [4, 0], [4, 1], [5, 0]]


def test_the_peak_is_that_of_the_summary():
    records = made_up_records()
    assert max(concurrency_series(records).y) == summarize(records).max_concurrency


def test_throughput_adds_up_to_all_tokens():
    records = made_up_records(50, failing=3)
    series = throughput_series(records, num_intervals=30)
    tokens = np.sum(np.asarray(series.y)[:-1] * np.diff(series.x))
    assert tokens == pytest.approx(summarize(records).total_output_tokens)


def test_tokens_that_were_not_streamed_count_at_the_end():
    series = throughput_series([record(0, 0, 10, output_tokens=100)], num_intervals=10)
    assert list(series.y) == [0] * 9 + [100, 100]


def test_without_a_success_there_is_no_throughput():
    assert len(throughput_series([record(0, 0, 1, error="timeout")]).x) == 0
    ElementTree.fromstring(throughput_chart([record(0, 0, 1, error="timeout")]))
    ElementTree.fromstring(concurrency_chart([]))
    ElementTree.fromstring(request_timeline([]))


def bars(svg):
    root = ElementTree.fromstring(svg)
    groups = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]
    return [
        (group.find(f"{SVG}title").text, [dict(rect.items()) for rect in group.iter(f"{SVG}rect")]) for group in groups
    ]


def test_a_bar_is_divided_at_the_first_token():
    ((text, (waiting, streaming)),) = bars(request_timeline([record(7, 1.0, 5.0, [2.0, 5.0], output_tokens=2)]))
    assert float(waiting["width"]) * 3 == pytest.approx(float(streaming["width"]), rel=0.01)
    assert float(waiting["x"]) + float(waiting["width"]) == pytest.approx(float(streaming["x"]), abs=0.02)
    assert text == "request 7: 1.000 s to 5.000 s, first token after 1,000 ms, 0 tokens in, 2 out"


def test_the_first_request_is_on_top():
    (_, first), (_, second) = bars(request_timeline([record(1, 2.0, 3.0), record(0, 1.0, 2.0)]))
    assert float(first[0]["y"]) < float(second[0]["y"])
    assert float(first[0]["x"]) < float(second[0]["x"])


def test_a_failure_says_why():
    ((text, (bar,)),) = bars(request_timeline([record(0, 0, 1, error="http_503", error_message="queue <full>")]))
    assert text == "request 0: http_503 queue <full>"
    assert "bad" in bar["fill"]


def test_many_requests_are_thinned_and_that_is_said():
    svg = request_timeline(made_up_records(5000))
    assert len(bars(svg)) == 120
    assert "120 of 5,000 requests, evenly chosen" in svg
    assert len(svg) < 100_000
