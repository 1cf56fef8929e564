"""The same test at several loads, and where throughput stops growing: the knee of the saturation curve."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from octavo.bench.files import write_whole
from octavo.bench.records import SCHEMA_VERSION, BenchResult
from octavo.bench.summary import Summary
from octavo.errors import ConfigError
from octavo.version import __version__

Variable = Literal["request_rate", "max_concurrency"]

GROWTH = 0.05
"""Part by which throughput must grow from one load to the next to count as growing."""

_MIN_RELATIVE_GAP = 1.125
_CLEARLY_HIGHER = 1.25
_NAMES: dict[Variable, str] = {"request_rate": "request rate", "max_concurrency": "concurrency"}


class SweepPoint(msgspec.Struct, kw_only=True):
    """One test of a sweep.

    Attributes:
        load: requests a second, or requests under way at a time.
    """

    load: float
    result: BenchResult


class Knee(msgspec.Struct, kw_only=True, frozen=True):
    """Where a saturation curve bends.

    Attributes:
        load: the lowest load that brings at least 95 % of the best throughput (with objectives: of the best goodput).
        is_saturated: whether a higher load was tried and did not bring more; if not, the knee lies above all loads.
    """

    load: float
    is_saturated: bool


class SweepResult(msgspec.Struct, kw_only=True):
    """What a sweep leaves behind.

    Attributes:
        variable: what was varied.
        points: by growing load.
        knee: None if no request of any point succeeded.
    """

    kind: Literal["sweep"] = "sweep"
    created_at: str
    octavo_version: str
    target: str
    model: str
    variable: Variable
    points: list[SweepPoint]
    knee: Knee | None
    warnings: list[str] = []
    schema_version: int = SCHEMA_VERSION


Measure = Callable[[float], BenchResult]
"""Runs the test at a load."""


def run_sweep(variable: Variable, loads: Iterable[float], measure: Measure) -> SweepResult:
    """Measure each of some loads, lowest first.

    An interrupt (Ctrl-C) ends it early: the result has the points that were complete, and says so.

    Raises:
        ConfigError: there is no load, or one is not positive, or not whole where it counts requests.
    """
    ordered = sorted(set(loads))
    check_loads(variable, ordered)
    return _run(variable, ordered, [], measure)


def run_auto_sweep(variable: Variable, start: float, measure: Measure, *, max_points: int = 16) -> SweepResult:
    """Find the knee: double the load until throughput stops growing, then halve the gaps beside the knee.

    With objectives it is goodput that must grow. It ends when the loads on both sides of the knee are within an eighth
    of it (or one request apart), after ``max_points`` tests, or at an interrupt.

    Raises:
        ConfigError: the first load is not positive, or not whole where it counts requests.
    """
    check_loads(variable, [start])
    points: list[SweepPoint] = []
    return _run(variable, itertools.islice(_loads_to_try(variable, start, points), max_points), points, measure)


def check_loads(variable: Variable, loads: Sequence[float]) -> None:
    """Refuse loads that cannot be.

    Raises:
        ConfigError: there is no load, or one is not positive, or not whole where it counts requests.
    """
    if not loads:
        raise ConfigError("a sweep needs at least one load")
    for load in loads:
        if not 0 < load < math.inf:
            raise ConfigError(f"a {_NAMES[variable]} must be above 0, not {load:g}")
        if variable == "max_concurrency" and load != int(load):
            raise ConfigError(f"a concurrency must be a whole number, not {load:g}")


def find_knee(points: Sequence[SweepPoint]) -> Knee | None:
    """Return the knee of points by growing load; None if nothing succeeded."""
    best = max((merit(point.result.summary) for point in points), default=0.0)
    if best <= 0:
        return None
    knee = next(point for point in points if merit(point.result.summary) >= best * (1 - GROWTH))
    last = points[-1]
    has_fallen = merit(last.result.summary) < merit(knee.result.summary)
    is_saturated = last is not knee and (has_fallen or last.load >= knee.load * _CLEARLY_HIGHER)
    return Knee(load=knee.load, is_saturated=is_saturated)


def merit(summary: Summary) -> float:
    """Return what should grow with the load: goodput where there are objectives, else output tokens a second.

    Where the model puts out no tokens, requests count.
    """
    if summary.goodput is not None:
        return summary.goodput
    return summary.output_throughput or summary.request_throughput


def merit_name(summary: Summary) -> str:
    """Return the name and unit of what ``merit`` returns."""
    if summary.goodput is not None:
        return "requests/s within the objectives"
    return "output tokens/s" if summary.output_throughput else "requests/s"


def describe_knee(sweep: SweepResult) -> str:
    """Say in a sentence or two where the knee is, or why it is not known."""
    name = _NAMES[sweep.variable]
    if sweep.knee is None:
        wanted = "met the objectives" if any(p.result.summary.num_successful for p in sweep.points) else "succeeded"
        return f"No request {wanted} at any {name}, so there is no knee."
    if len(sweep.points) == 1:
        return "One point shows no knee: try several loads."
    at = next(point for point in sweep.points if point.load == sweep.knee.load)
    figures = f"{merit(at.result.summary):,.4g} {merit_name(at.result.summary)}{_latencies(at.result.summary)}"
    if not sweep.knee.is_saturated:
        last = sweep.points[-1]
        return (
            f"No knee yet: throughput still grows at {name} {last.load:g}, the highest that was tried "
            f"({merit(last.result.summary):,.4g} {merit_name(last.result.summary)}). Try higher ones."
        )
    return f"The knee is at {name} {sweep.knee.load:g}: {figures}. Beyond it, requests only wait longer."


def write_sweep(sweep: SweepResult, path: Path) -> None:
    """Write a sweep with every point's result as JSON, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_whole(path, msgspec.json.encode(sweep))


def _run(variable: Variable, loads: Iterable[float], points: list[SweepPoint], measure: Measure) -> SweepResult:
    """Measure loads one after the other; ``points`` grows meanwhile, in the order of the loads."""
    interrupted = []
    try:
        for load in loads:
            points.append(SweepPoint(load=load, result=measure(load)))
            points.sort(key=lambda point: point.load)
    except KeyboardInterrupt:
        if not points:
            raise
        interrupted = ["The sweep was interrupted: some loads were not measured."]
    first = points[0].result
    return SweepResult(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        octavo_version=__version__,
        target=first.target,
        model=first.model,
        variable=variable,
        points=points,
        knee=find_knee(points),
        warnings=interrupted + _warnings(variable, points),
    )


def _loads_to_try(variable: Variable, start: float, points: Sequence[SweepPoint]) -> Iterator[float]:
    """Yield loads, each when ``points`` has the result of the one before."""
    yield start
    while len(points) < 2 or _grows(points[-2], points[-1]):
        yield points[-1].load * 2
    while (load := _load_to_refine(variable, points)) is not None:
        yield load


def _load_to_refine(variable: Variable, points: Sequence[SweepPoint]) -> float | None:
    """Return the middle of the wider of the two gaps beside the knee; None if both are narrow."""
    knee = find_knee(points)
    if knee is None:
        return None
    place = next(i for i, point in enumerate(points) if point.load == knee.load)
    loads = [point.load for point in points]
    gaps = [(loads[i + 1] / loads[i], loads[i], loads[i + 1]) for i in (place - 1, place) if 0 <= i < len(loads) - 1]
    for ratio, low, high in sorted(gaps, reverse=True):
        middle = (low + high) / 2
        if variable == "max_concurrency":
            middle = math.floor(middle)
        if ratio > _MIN_RELATIVE_GAP and low < middle < high:
            return float(f"{middle:.3g}") if variable == "request_rate" else middle
    return None


def _grows(earlier: SweepPoint, later: SweepPoint) -> bool:
    return merit(later.result.summary) > merit(earlier.result.summary) * (1 + GROWTH)


def _latencies(summary: Summary) -> str:
    told = [("TTFT", summary.ttft_ms), ("TPOT", summary.tpot_ms)]
    return "".join(f", median {name} {values.p50:,.4g} ms" for name, values in told if values is not None)


def _warnings(variable: Variable, points: Sequence[SweepPoint]) -> list[str]:
    warnings = [
        f"{_NAMES[variable]} {point.load:g}: {warning}" for point in points for warning in point.result.warnings
    ]
    shares = [
        point.result.summary.total_cached_tokens / point.result.summary.total_input_tokens
        for point in points
        if point.result.summary.total_input_tokens
    ]
    if shares and max(shares) - min(shares) > 0.1:
        warnings.append(
            f"The prefix cache held {min(shares):.0%} of the input tokens at one load and {max(shares):.0%} at "
            "another, so the loads did not do the same work."
        )
    return warnings
