"""Where each policy sends requests."""

from __future__ import annotations

from collections import Counter

import pytest

from octavo.bench.summary import Slo
from octavo.bench.traces import TraceRequest
from octavo.simulate.balancing import POLICIES
from octavo.simulate.replica_search import attainment
from octavo.simulate.workload import make_workload
from tests.simulate.made_loads import make_replica, make_requests, records


def replicas_of(requests: list[TraceRequest], policy: str, num_replicas: int = 2, **replica: object) -> list[int]:
    served = records(requests, make_replica(**replica), policy=policy, num_replicas=num_replicas)
    return [record.replica for record in served]


def test_round_robin_takes_turns() -> None:
    assert replicas_of(make_requests(*[(0.0, 4, 1)] * 5), "round-robin", 3) == [0, 1, 2, 0, 1]


def test_random_uses_all_replicas() -> None:
    counts = Counter(replicas_of(make_requests(*[(0.0, 4, 1)] * 300), "random", 3))
    assert sorted(counts) == [0, 1, 2]
    assert min(counts.values()) > 60


def test_least_outstanding_avoids_the_busy_one() -> None:
    requests = make_requests((0.0, 4, 50), (0.1, 4, 1), (5.0, 4, 1), (5.1, 4, 1), (20.0, 4, 1))
    assert replicas_of(requests, "least-outstanding") == [0, 1, 1, 0, 1]


def test_least_tokens_weighs_requests() -> None:
    requests = make_requests((0.0, 900, 50), (0.1, 4, 9), (0.2, 4, 9), (0.3, 4, 9))
    assert replicas_of(requests, "least-tokens") == [0, 1, 1, 1]
    assert replicas_of(requests, "least-outstanding") == [0, 1, 0, 1]


def test_least_kv_looks_at_the_blocks_in_use() -> None:
    requests = make_requests((0.0, 900, 50), (0.1, 4, 50), (5.0, 4, 9), (5.1, 4, 9))
    assert replicas_of(requests, "least-kv") == [0, 1, 1, 1]


def test_prefix_affinity_sends_a_prefix_where_it_was_served() -> None:
    requests = [TraceRequest(10.0 * turn, 1000, 1, (turn % 2, 10 + turn)) for turn in range(6)]
    assert replicas_of(requests, "prefix-affinity") == [0, 0, 0, 0, 0, 0]  # the first is always the least loaded
    crowded = [TraceRequest(0.0, 1000, 50, (turn % 2, 10 + turn)) for turn in range(6)]
    assert replicas_of(crowded, "prefix-affinity") == [0, 1, 0, 1, 0, 1]


def test_prefix_affinity_leaves_an_overloaded_replica() -> None:
    requests = [TraceRequest(0.01 * turn, 1000, 50, (1, 10 + turn)) for turn in range(8)]
    assert set(replicas_of(requests, "prefix-affinity")) == {0, 1}


def test_prefix_affinity_finds_more_in_the_cache_than_taking_turns() -> None:
    requests = [TraceRequest(3.0 * turn, 1100, 2, (turn % 3, 100 + turn % 3, 1000 + turn)) for turn in range(30)]
    cached = {
        policy: sum(record.cached_tokens for record in records(requests, make_replica(), policy=policy, num_replicas=2))
        for policy in ("prefix-affinity", "round-robin")
    }
    assert cached["prefix-affinity"] > cached["round-robin"]


@pytest.mark.parametrize("policy", POLICIES)
def test_more_replicas_never_lower_the_attainment(policy: str) -> None:
    requests = make_workload(num_prompts=300, input_len=200, output_len=30, range_ratio=0.5, request_rate=10, seed=5)
    replica = make_replica(0.02, 0.0005)
    slo = Slo(ttft_ms=400, tpot_ms=60)
    parts = [
        attainment(records(requests, replica, policy=policy, num_replicas=number, seed=1), slo)
        for number in (1, 2, 4, 8)
    ]
    assert parts == sorted(parts)
    assert parts[0] < 0.5 < 0.99 < parts[-1]
