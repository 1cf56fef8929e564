"""Step times, replicas and loads as the tests of the simulator need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octavo.bench.records import RequestRecord
from octavo.bench.traces import TraceRequest
from octavo.plan.step_time import StepShape
from octavo.simulate.replica import ReplicaSettings
from octavo.simulate.simulation import SimulationOutcome, SimulationSettings, simulate


@dataclass(frozen=True)
class LinearStepTime:
    """Every step takes a constant time and a time for each token."""

    step_s: float = 1.0
    token_s: float = 0.0

    def step_seconds(self, step: StepShape) -> float:
        return self.step_s + self.token_s * step.num_tokens


def make_replica(step_s: float = 1.0, token_s: float = 0.0, **settings: Any) -> ReplicaSettings:
    """Return a replica with 1,000 blocks unless the settings say otherwise."""
    return ReplicaSettings(
        step_time=LinearStepTime(step_s, token_s), **{"num_blocks": 1000, "max_model_len": 4096, **settings}
    )


def make_requests(*times_and_lengths: tuple[float, int, int]) -> list[TraceRequest]:
    """Return requests of (arrival, input tokens, output tokens)."""
    return [TraceRequest(*one) for one in times_and_lengths]


def run(requests: list[TraceRequest], replica: ReplicaSettings, **settings: Any) -> SimulationOutcome:
    """Simulate."""
    return simulate(requests, SimulationSettings(replica=replica, **settings))


def records(requests: list[TraceRequest], replica: ReplicaSettings, **settings: Any) -> list[RequestRecord]:
    """Simulate and return the records alone."""
    return run(requests, replica, **settings).records
