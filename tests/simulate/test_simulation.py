"""The virtual clock: hand-computed scenarios, what must hold of any, and queueing theory."""

from __future__ import annotations

import math
import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.bench.calibration import ServingOverhead
from octavo.bench.summary import summarize
from octavo.bench.traces import TraceRequest
from octavo.errors import ConfigError
from octavo.simulate.balancing import POLICIES
from octavo.simulate.simulation import SimulationSettings
from octavo.simulate.workload import make_workload
from tests.simulate.made_loads import make_replica, make_requests, records, run


def test_one_request_takes_one_step_for_each_token() -> None:
    (record,) = records(make_requests((5.0, 100, 4)), make_replica(step_s=0.5))
    assert (record.sent_at, record.chunk_times, record.finished_at) == (5.0, [5.5, 6.0, 6.5, 7.0], 7.0)
    assert (record.ttft_s, record.tpot_s) == (0.5, 0.5)
    assert (record.input_tokens, record.output_tokens) == (100, 4)


def test_a_prompt_longer_than_the_budget_takes_several_steps() -> None:
    (record,) = records(make_requests((0.0, 100, 2)), make_replica(max_num_batched_tokens=40))
    assert record.chunk_times == [3.0, 4.0]


def test_step_times_depend_on_what_is_computed() -> None:
    (record,) = records(make_requests((0.0, 10, 3)), make_replica(step_s=1.0, token_s=0.1))
    assert record.chunk_times == pytest.approx([2.0, 3.1, 4.2])


def test_a_request_that_comes_during_a_step_joins_the_next() -> None:
    first, second = records(make_requests((0.0, 8, 3), (0.4, 8, 2)), make_replica())
    assert first.chunk_times == [1.0, 2.0, 3.0]
    assert second.chunk_times == [2.0, 3.0]


def test_a_request_that_comes_at_the_end_of_a_step_joins_the_next() -> None:
    _, second = records(make_requests((0.0, 8, 3), (1.0, 8, 1)), make_replica())
    assert second.chunk_times == [2.0]


def test_an_idle_replica_begins_at_once() -> None:
    _, late = records(make_requests((0.0, 8, 1), (10.25, 8, 1)), make_replica())
    assert late.chunk_times == [11.25]


def test_requests_of_one_moment_share_their_first_step() -> None:
    together = records(make_requests((0.0, 8, 2), (0.0, 8, 2)), make_replica())
    assert [record.chunk_times for record in together] == [[1.0, 2.0], [1.0, 2.0]]


def test_requests_wait_for_a_row_in_order() -> None:
    first, second = records(make_requests((0.0, 8, 2), (0.0, 8, 2)), make_replica(max_num_seqs=1))
    assert (first.finished_at, second.chunk_times) == (2.0, [3.0, 4.0])


def test_overhead_delays_requests_and_steps() -> None:
    overhead = ServingOverhead(request_s=0.5, input_token_s=0.01, step_s=0.25, step_seq_s=0.125)
    (record,) = records(make_requests((0.0, 10, 2)), make_replica(overhead=overhead))
    assert record.chunk_times == pytest.approx([0.6 + 1.375, 0.6 + 2 * 1.375])


def test_replicas_work_at_the_same_time() -> None:
    both = records(make_requests((0.0, 8, 2), (0.0, 8, 2)), make_replica(max_num_seqs=1), num_replicas=2)
    assert [record.finished_at for record in both] == [2.0, 2.0]
    assert {record.replica for record in both} == {0, 1}


def test_a_closed_loop_sends_the_next_request_when_one_is_answered() -> None:
    loop = records(make_requests(*[(99.0, 8, 2)] * 4), make_replica(), max_concurrency=2)
    assert [record.sent_at for record in loop] == [0.0, 0.0, 2.0, 2.0]
    assert summarize(loop).max_concurrency == 2


_REQUESTS = st.lists(
    st.builds(
        TraceRequest,
        arrival_s=st.floats(0, 20),
        input_tokens=st.integers(1, 40),
        output_tokens=st.integers(1, 20),
        hash_ids=st.none(),
    ),
    min_size=1,
    max_size=12,
)


@given(
    requests=_REQUESTS,
    policy=st.sampled_from(list(POLICIES)),
    num_replicas=st.integers(1, 3),
    num_blocks=st.integers(15, 30),
    concurrency=st.none() | st.integers(1, 4),
)
def test_every_request_gets_its_tokens_in_the_order_of_time(
    requests: list[TraceRequest], policy: str, num_replicas: int, num_blocks: int, concurrency: int | None
) -> None:
    replica = make_replica(0.1, 0.01, num_blocks=num_blocks, block_size=4, max_num_batched_tokens=16, max_num_seqs=4)
    settings = {"policy": policy, "num_replicas": num_replicas, "max_concurrency": concurrency, "seed": 1}
    served = records(requests, replica, **settings)
    assert [record.index for record in served] == list(range(len(requests)))
    for request, record in zip(requests, served, strict=True):
        assert (record.input_tokens, record.output_tokens) == (request.input_tokens, request.output_tokens)
        assert len(record.chunk_times) == request.output_tokens
        if concurrency is None:
            assert record.sent_at == request.arrival_s
        assert record.sent_at < record.chunk_times[0]
        assert record.chunk_times == sorted(set(record.chunk_times))
        assert record.finished_at == record.chunk_times[-1]
        assert 0 <= record.replica < num_replicas
    assert served == records(requests, replica, **settings)


def test_the_same_seed_gives_the_same_file() -> None:
    replica = make_replica(0.01, 1e-4)

    def encoded(seed: int) -> bytes:
        requests = make_workload(
            num_prompts=200, input_len=50, output_len=20, range_ratio=0.5, request_rate=20, seed=seed
        )
        return msgspec.json.encode(records(requests, replica, num_replicas=3, policy="random", seed=seed))

    assert encoded(1) == encoded(1)
    assert encoded(1) != encoded(2)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_waiting_times_are_those_of_a_queue_with_constant_service(load: float) -> None:
    """M/D/1: Poisson arrivals at a server that takes exactly 1 s wait load / (2 (1 - load)) s on average."""
    requests = make_workload(num_prompts=20_000, input_len=4, output_len=1, request_rate=load, seed=3)
    served = records(requests, make_replica(max_num_seqs=1, enable_prefix_caching=False))
    waits = [record.e2e_s - 1 for record in served]
    assert min(waits) >= -1e-9
    expected = load / (2 * (1 - load))
    # Waits are correlated; batches of 1,000 are nearly independent, and their spread gives the standard error.
    batches = [statistics.mean(waits[start : start + 1000]) for start in range(0, len(waits), 1000)]
    error = statistics.stdev(batches) / math.sqrt(len(batches))
    assert abs(statistics.mean(waits) - expected) < 4 * error
    assert error < 0.15 * expected


def test_shared_prefixes_are_computed_once() -> None:
    shared = [TraceRequest(10.0 * index, 1100, 2, (1, 2, 10 + index)) for index in range(3)]
    alone = [TraceRequest(10.0 * index, 1100, 2, (100 * index, 100 * index + 1, 10 + index)) for index in range(1, 4)]
    replica = make_replica(step_s=0.1, token_s=0.001)
    with_sharing, without = records(shared, replica), records(alone, replica)
    assert [record.cached_tokens for record in with_sharing] == [0, 1024, 1024]
    assert [record.cached_tokens for record in without] == [0, 0, 0]
    assert with_sharing[0].ttft_s == pytest.approx(0.1 + 1.1)
    assert with_sharing[1].ttft_s == pytest.approx(0.1 + 0.076)
    switched_off = records(shared, make_replica(0.1, 0.001, enable_prefix_caching=False))
    assert [record.cached_tokens for record in switched_off] == [0, 0, 0]


def test_outputs_are_never_found_as_prefixes() -> None:
    same = [TraceRequest(100.0 * index, 512, 64, (7,)) for index in range(2)]
    assert [record.cached_tokens for record in records(same, make_replica())] == [0, 496]


def test_a_full_cache_preempts_and_still_serves_all() -> None:
    requests = make_requests(*[(0.0, 20, 40)] * 4)
    replica = make_replica(num_blocks=20, block_size=4, enable_prefix_caching=False)
    outcome = run(requests, replica)
    assert outcome.num_preemptions > 0
    assert [record.output_tokens for record in outcome.records] == [40] * 4
    roomy = run(requests, make_replica(num_blocks=100, block_size=4, enable_prefix_caching=False))
    assert roomy.num_preemptions == 0
    assert summarize(roomy.records).duration_s == 40.0 < summarize(outcome.records).duration_s


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_replicas": 0}, "at least 1 replica, not 0"),
        ({"max_concurrency": 0}, "concurrency must be at least 1, not 0"),
        ({"policy": "round-robbin"}, "did you mean round-robin"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(make_requests((0.0, 1, 1)), make_replica(), **settings)


def test_loads_that_cannot_be_served_are_refused() -> None:
    with pytest.raises(ConfigError, match="no requests"):
        run([], make_replica())
    with pytest.raises(ConfigError, match=r"longest request has 70 .* takes 64 at most"):
        run(make_requests((0.0, 60, 10)), make_replica(num_blocks=4))


def test_settings_are_checked_before_anything_runs() -> None:
    with pytest.raises(ConfigError):
        SimulationSettings(replica=make_replica(), num_replicas=-1)
