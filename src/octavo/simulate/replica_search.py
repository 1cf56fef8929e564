"""How many replicas a load needs under service-level objectives, and what they cost."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from octavo.bench.records import RequestRecord
from octavo.bench.summary import Slo, Summary, meets, summarize
from octavo.errors import ConfigError
from octavo.simulate.simulation import SimulationOutcome

Simulate = Callable[[int], SimulationOutcome]
"""Serves the load with so many replicas."""


class SearchPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The load on one number of replicas.

    Attributes:
        attainment: part of the requests that met every objective.
        cost_per_hour: of all replicas in US dollars; None if no price is known.
        cost_per_million_output: US dollars for a million output tokens at this load.
    """

    num_replicas: int
    attainment: float
    summary: Summary
    num_preemptions: int
    cost_per_hour: float | None = None
    cost_per_million_output: float | None = None


class ReplicaSearch(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found.

    Attributes:
        needed: the least number of replicas for which the objectives held; None if more do not help.
        points: every number that was simulated, ascending.
    """

    slo: Slo
    target_attainment: float
    needed: int | None
    points: tuple[SearchPoint, ...]
    price_per_hour: float | None = None


def attainment(records: list[RequestRecord], slo: Slo) -> float:
    """Return the part of the requests that met every objective."""
    return sum(record.error is None and meets(record, slo) for record in records) / len(records)


def find_replicas(
    simulate: Simulate,
    slo: Slo,
    *,
    target_attainment: float = 0.95,
    max_replicas: int = 1024,
    price_per_hour: float | None = None,
    progress: Callable[[SearchPoint], None] | None = None,
) -> ReplicaSearch:
    """Find the least number of replicas with which enough requests meet the objectives.

    The number is doubled until they do, then the interval is halved; that takes for granted that more replicas never
    make it worse. The doubling ends early where a replica for each request under way brings nothing more.

    Args:
        target_attainment: part of the requests that must meet every objective, above 0 and at most 1.
        price_per_hour: of one replica in US dollars.

    Raises:
        ConfigError: a number is out of range, or there are no objectives.
    """
    if not 0 < target_attainment <= 1:
        raise ConfigError(f"the attainment must be above 0 and at most 1, not {target_attainment:g}")
    if max_replicas < 1:
        raise ConfigError(f"the greatest number of replicas must be at least 1, not {max_replicas}")
    if slo == Slo():
        raise ConfigError("a search for replicas needs objectives, e.g. --slo ttft:500ms,tpot:33ms")
    points: dict[int, SearchPoint] = {}

    def holds(num_replicas: int) -> bool:
        point = _evaluate(simulate(num_replicas), num_replicas, slo, price_per_hour)
        points[num_replicas] = point
        if progress is not None:
            progress(point)
        return point.attainment >= target_attainment

    low, high = 0, 1
    while not holds(high):
        if high >= min(max_replicas, points[high].summary.max_concurrency):
            return _search(points, slo, target_attainment, None, price_per_hour)
        low, high = high, min(2 * high, max_replicas)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return _search(points, slo, target_attainment, high, price_per_hour)


def _evaluate(outcome: SimulationOutcome, num_replicas: int, slo: Slo, price_per_hour: float | None) -> SearchPoint:
    summary = summarize(outcome.records, slo)
    cost = None if price_per_hour is None else price_per_hour * num_replicas
    per_token = None if cost is None else cost * summary.duration_s / 3600 / summary.total_output_tokens
    return SearchPoint(
        num_replicas=num_replicas,
        attainment=attainment(outcome.records, slo),
        summary=summary,
        num_preemptions=outcome.num_preemptions,
        cost_per_hour=cost,
        cost_per_million_output=None if per_token is None else per_token * 1e6,
    )


def _search(
    points: dict[int, SearchPoint], slo: Slo, target: float, needed: int | None, price_per_hour: float | None
) -> ReplicaSearch:
    return ReplicaSearch(
        slo=slo,
        target_attainment=target,
        needed=needed,
        points=tuple(points[number] for number in sorted(points)),
        price_per_hour=price_per_hour,
    )
