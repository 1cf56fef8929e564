"""What a simulation leaves behind: the same file as a load test, with virtual times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from octavo.bench.machine import describe_machine
from octavo.bench.records import BenchResult
from octavo.bench.summary import Slo, summarize
from octavo.simulate.hardware import SimulatedHardware
from octavo.simulate.load import Load
from octavo.simulate.simulation import SimulationOutcome, SimulationSettings
from octavo.version import __version__


def make_result(
    outcome: SimulationOutcome,
    hardware: SimulatedHardware,
    *,
    settings: Mapping[str, Any],
    slo: Slo | None = None,
    warnings: Sequence[str] = (),
) -> BenchResult:
    """Summarise a simulation."""
    return BenchResult(
        kind="simulate",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        octavo_version=__version__,
        target=hardware.target,
        model=hardware.model,
        settings={**settings, "num_steps": outcome.num_steps, "num_preemptions": outcome.num_preemptions},
        environment=describe_machine(),
        summary=summarize(outcome.records, slo),
        records=outcome.records,
        warnings=list(warnings),
    )


def describe_settings(load: Load, settings: SimulationSettings) -> dict[str, Any]:
    """Return the options of a simulation by name, ready for JSON."""
    replica = asdict(settings.replica)
    del replica["step_time"]
    return {
        **{name: str(value) if isinstance(value, Path) else value for name, value in asdict(load).items()},
        "num_replicas": settings.num_replicas,
        "policy": settings.policy,
        "max_concurrency": settings.max_concurrency,
        "replica": {**replica, "overhead": msgspec.structs.asdict(settings.replica.overhead)},
    }
