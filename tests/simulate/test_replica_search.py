"""The least number of replicas for objectives, and its report."""

from __future__ import annotations

import msgspec
import pytest

from octavo.bench.summary import Slo
from octavo.errors import ConfigError
from octavo.simulate.replica_search import ReplicaSearch, attainment, find_replicas
from octavo.simulate.search_report import describe_search, search_table, write_search_report
from octavo.simulate.simulation import SimulationOutcome
from octavo.simulate.workload import make_workload
from tests.simulate.made_loads import make_replica, run

SLO = Slo(ttft_ms=300, tpot_ms=50)
REQUESTS = make_workload(num_prompts=400, input_len=200, output_len=20, range_ratio=0.3, request_rate=25, seed=2)


def serve(num_replicas: int) -> SimulationOutcome:
    return run(REQUESTS, make_replica(0.02, 0.0005), num_replicas=num_replicas)


@pytest.fixture(scope="module")
def search() -> ReplicaSearch:
    return find_replicas(serve, SLO, target_attainment=0.95, price_per_hour=2.5)


def test_one_replica_fewer_is_not_enough(search: ReplicaSearch) -> None:
    assert search.needed is not None
    assert search.needed > 2
    assert attainment(serve(search.needed).records, SLO) >= 0.95
    assert attainment(serve(search.needed - 1).records, SLO) < 0.95


def test_every_number_is_simulated_once_at_most(search: ReplicaSearch) -> None:
    numbers = [point.num_replicas for point in search.points]
    assert numbers == sorted(set(numbers))
    assert {1, search.needed} <= set(numbers)


def test_costs_are_those_of_all_replicas(search: ReplicaSearch) -> None:
    for point in search.points:
        assert point.cost_per_hour == 2.5 * point.num_replicas
        hours = point.summary.duration_s / 3600
        tokens = sum(request.output_tokens for request in REQUESTS)
        assert point.cost_per_million_output == pytest.approx(point.cost_per_hour * hours / tokens * 1e6)


def test_objectives_that_no_number_meets_end_the_search() -> None:
    search = find_replicas(serve, Slo(ttft_ms=1), target_attainment=0.95)
    assert search.needed is None
    assert "Not reached" in describe_search(search)
    assert search.points[-1].num_replicas < 200


def test_the_greatest_number_is_kept_to() -> None:
    search = find_replicas(serve, SLO, target_attainment=0.95, max_replicas=2)
    assert search.needed is None
    assert [point.num_replicas for point in search.points] == [1, 2]


def test_the_report_has_all_points(search: ReplicaSearch, tmp_path) -> None:
    file = tmp_path / "search.html"
    write_search_report(search, file, title="<model>", settings={"seed": 0})
    page = file.read_text(encoding="utf-8")
    assert "&lt;model&gt;" in page
    assert "<model>" not in page
    header, rows = search_table(search)
    assert len(rows) == len(search.points)
    assert all(cell in page for cell in (*header, *rows[0]))
    assert f"{search.needed} replicas" in describe_search(search)
    assert msgspec.json.decode(msgspec.json.encode(search), type=ReplicaSearch) == search


@pytest.mark.parametrize(
    ("slo", "options", "message"),
    [
        (Slo(), {}, "needs objectives"),
        (SLO, {"target_attainment": 0.0}, "attainment must be above 0 and at most 1, not 0"),
        (SLO, {"target_attainment": 95.0}, "attainment must be above 0 and at most 1, not 95"),
        (SLO, {"max_replicas": 0}, "at least 1, not 0"),
    ],
)
def test_wrong_searches_are_refused(slo: Slo, options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_replicas(serve, slo, **options)
