"""The clock of a simulation: events in the order of their virtual times, over any number of replicas."""

from __future__ import annotations

import enum
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from octavo.bench.records import RequestRecord
from octavo.bench.traces import TraceRequest
from octavo.engine.start_up import collector_off
from octavo.errors import ConfigError
from octavo.simulate.balancing import make_balancer
from octavo.simulate.replica import Replica, ReplicaSettings, make_replicas
from octavo.simulate.workload import check_workload


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """Replicas and how they are loaded.

    Attributes:
        policy: of balancing, a key of ``octavo.simulate.balancing.POLICIES``.
        max_concurrency: closed loop: arrival times are ignored, and this many requests are always under way.
        seed: of the random policy.
    """

    replica: ReplicaSettings
    num_replicas: int = 1
    policy: str = "least-outstanding"
    max_concurrency: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_replicas < 1:
            raise ConfigError(f"a simulation needs at least 1 replica, not {self.num_replicas}")
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise ConfigError(f"the concurrency must be at least 1, not {self.max_concurrency}")


@dataclass(frozen=True, slots=True)
class SimulationOutcome:
    """What came of a simulation: one record a request, in the order of the workload."""

    records: list[RequestRecord]
    num_steps: int
    num_preemptions: int


class _Event(enum.IntEnum):
    """What happens; of events at one time the lower number comes first."""

    SEND = 0
    REACH_ENGINE = 1
    END_STEP = 2
    BEGIN_STEP = 3


def simulate(requests: Sequence[TraceRequest], settings: SimulationSettings) -> SimulationOutcome:
    """Serve requests in virtual time. The same arguments give the same records.

    Each request gets exactly its ``output_tokens``.

    Raises:
        ConfigError: there is no request, one does not fit into a replica, or there is no such policy.
    """
    check_workload(requests, settings.replica.max_num_tokens)
    with collector_off():  # millions of times and token ids stay alive, and none of them is ever part of a cycle
        return _Simulation(requests, settings).run()


class _Simulation:
    def __init__(self, requests: Sequence[TraceRequest], settings: SimulationSettings) -> None:
        self._requests = requests
        self._replicas = make_replicas(settings.num_replicas, settings.replica)
        self._balancer = make_balancer(settings.policy, self._replicas, settings.seed)
        self._records: list[RequestRecord | None] = [None] * len(requests)
        self._events: list[tuple[float, int, int, int]] = []
        self._order = itertools.count()
        self._is_closed_loop = settings.max_concurrency is not None
        if settings.max_concurrency is None:
            self._unsent: Iterator[int] = iter(())
            for index, request in enumerate(requests):
                self._post(request.arrival_s, _Event.SEND, index)
        else:
            self._unsent = iter(range(len(requests)))
            for index in itertools.islice(self._unsent, settings.max_concurrency):
                self._post(0.0, _Event.SEND, index)

    def run(self) -> SimulationOutcome:
        num_steps = 0
        while self._events:
            now, event, _, subject = heapq.heappop(self._events)
            if event == _Event.SEND:
                self._send(subject, now)
            elif event == _Event.REACH_ENGINE:
                self._reach_engine(subject, now)
            elif event == _Event.END_STEP:
                self._end_step(self._replicas[subject], now)
            else:
                num_steps += 1
                self._post(now + self._replicas[subject].begin_step(), _Event.END_STEP, subject)
        return SimulationOutcome(
            records=[record for record in self._records if record is not None],
            num_steps=num_steps,
            num_preemptions=sum(replica.num_preemptions for replica in self._replicas),
        )

    def _post(self, at: float, event: _Event, subject: int) -> None:
        heapq.heappush(self._events, (at, event, next(self._order), subject))

    def _send(self, index: int, now: float) -> None:
        request = self._requests[index]
        replica = self._balancer.choose(request)
        self._records[index] = RequestRecord(
            index=index,
            scheduled_at=now,
            sent_at=now,
            finished_at=now,
            chunk_times=[],
            input_tokens=request.input_tokens,
            replica=replica.index,
        )
        self._post(now + replica.expect(request), _Event.REACH_ENGINE, index)

    def _reach_engine(self, index: int, now: float) -> None:
        record = self._record(index)
        replica = self._replicas[record.replica]
        replica.add(self._requests[index], record)
        if not replica.is_busy:
            replica.is_busy = True
            self._post(now, _Event.BEGIN_STEP, replica.index)

    def _end_step(self, replica: Replica, now: float) -> None:
        for record in replica.end_step(now):
            next_index = next(self._unsent, None)
            if next_index is not None:
                self._post(record.finished_at, _Event.SEND, next_index)
        replica.is_busy = replica.has_work
        if replica.is_busy:
            self._post(now, _Event.BEGIN_STEP, replica.index)

    def _record(self, index: int) -> RequestRecord:
        record = self._records[index]
        if record is None:
            raise AssertionError(f"request {index} was never sent")
        return record
