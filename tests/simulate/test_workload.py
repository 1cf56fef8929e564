"""Random requests, prompts that share what the trace says, and loads from files."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from octavo.bench.traces import TraceRequest
from octavo.errors import ConfigError
from octavo.simulate.load import Load, make_requests
from octavo.simulate.workload import make_workload, prompt_token_ids


def test_random_requests_have_the_wanted_lengths_and_rate() -> None:
    requests = make_workload(num_prompts=5000, input_len=100, output_len=20, range_ratio=0.5, request_rate=4.0, seed=1)
    assert len(requests) == 5000
    assert {request.input_tokens for request in requests} == set(range(50, 151))
    assert {request.output_tokens for request in requests} == set(range(10, 31))
    assert statistics.mean(request.input_tokens for request in requests) == pytest.approx(100, rel=0.02)
    gaps = [after.arrival_s - before.arrival_s for before, after in itertools.pairwise(requests)]
    assert statistics.mean(gaps) == pytest.approx(0.25, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.25, rel=0.1)  # exponential: the mean is the deviation


def test_burstiness_changes_the_deviation_alone() -> None:
    requests = make_workload(num_prompts=5000, input_len=1, output_len=1, request_rate=4.0, burstiness=4.0, seed=1)
    gaps = [after.arrival_s - before.arrival_s for before, after in itertools.pairwise(requests)]
    assert statistics.mean(gaps) == pytest.approx(0.25, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.125, rel=0.1)


def test_without_a_rate_all_come_at_once() -> None:
    requests = make_workload(num_prompts=3, input_len=5, output_len=6)
    assert requests == [TraceRequest(0.0, 5, 6)] * 3


@pytest.mark.parametrize(
    "wrong",
    [{"num_prompts": 0}, {"input_len": 0}, {"output_len": 0}, {"range_ratio": 1.0}, {"request_rate": 0.0}],
)
def test_wrong_workloads_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        make_workload(**{"num_prompts": 1, "input_len": 1, "output_len": 1, **wrong})


def test_prompts_are_equal_as_far_as_their_hash_ids_are() -> None:
    first = prompt_token_ids(TraceRequest(0.0, 1100, 1, (4, 5, 6)), 0)
    second = prompt_token_ids(TraceRequest(0.0, 1200, 1, (4, 5, 7)), 1)
    assert (len(first), len(second)) == (1100, 1200)
    assert first[:1024] == second[:1024]
    assert not set(first[1024:]) & set(second[1024:])


def test_prompts_without_hash_ids_share_nothing() -> None:
    first, second = (prompt_token_ids(TraceRequest(0.0, 50, 1), index) for index in (0, 1))
    assert len(set(first) | set(second)) == 100


def test_a_trace_is_shortened_to_what_a_replica_takes(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,100,10\n4,5000,10\n6,1,1\n")
    requests, warnings = make_requests(Load(trace=trace, trace_speed=2.0, num_prompts=2), 1000)
    assert [(r.arrival_s, r.input_tokens, r.output_tokens) for r in requests] == [(0.0, 100, 10), (2.0, 990, 10)]
    assert len(warnings) == 1
    assert "1 of 2 requests" in warnings[0]


def test_a_trace_has_its_own_arrival_times() -> None:
    with pytest.raises(ConfigError, match="--trace-speed"):
        Load(trace=Path("trace.csv"), request_rate=1.0)
