"""One simulated replica: the engine's own scheduler and block manager, a virtual clock, and no model."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from octavo.bench.calibration import ServingOverhead
from octavo.bench.records import RequestRecord
from octavo.bench.traces import TraceRequest
from octavo.engine.kv_cache import KVCacheManager
from octavo.engine.messages import EngineRequest, SequenceUpdate
from octavo.engine.request import Request
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.scheduler import Scheduler
from octavo.engine.step import StepResult
from octavo.plan.step_time import StepShape, StepTimeModel
from octavo.simulate.workload import prompt_token_ids

_PARAMS = SamplingParams(ignore_eos=True)
_NO_OVERHEAD = ServingOverhead()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """What every replica of a simulation is.

    Attributes:
        step_time: how long its steps take.
        num_blocks: of its KV cache.
        max_model_len: longest input plus output, in tokens.
        overhead: what its server takes around the steps.
    """

    step_time: StepTimeModel
    num_blocks: int
    max_model_len: int
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    enable_prefix_caching: bool = True
    overhead: ServingOverhead = _NO_OVERHEAD

    @property
    def max_num_tokens(self) -> int:
        """Longest sequence that a replica can serve."""
        return min(self.max_model_len, self.num_blocks * self.block_size)


class Replica:
    """Takes requests, and computes steps when it is told that their time has come.

    Attributes:
        index: its place among the replicas.
        num_outstanding: requests that were sent to it and are not answered.
        num_outstanding_tokens: their input and output tokens.
        is_busy: whether a step is under way, or about to begin.
    """

    def __init__(self, index: int, settings: ReplicaSettings) -> None:
        self.index = index
        self.num_outstanding = 0
        self.num_outstanding_tokens = 0
        self.is_busy = False
        self._settings = settings
        self._scheduler = Scheduler(
            KVCacheManager(
                settings.num_blocks, settings.block_size, enable_prefix_caching=settings.enable_prefix_caching
            ),
            max_num_seqs=settings.max_num_seqs,
            max_num_batched_tokens=settings.max_num_batched_tokens,
        )
        self._records: dict[str, RequestRecord] = {}
        self._updates: list[SequenceUpdate] = []
        self._num_arrivals = 0
        self._num_sampled = 0

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished."""
        return self._scheduler.has_unfinished_requests

    @property
    def num_used_blocks(self) -> int:
        """Blocks of the KV cache that requests hold."""
        return self._scheduler.kv_cache.pool.num_used

    @property
    def num_preemptions(self) -> int:
        """Requests whose blocks were taken so far."""
        return self._scheduler.stats().total_preemptions

    def expect(self, request: TraceRequest) -> float:
        """Count a request that is on its way; returns the seconds until the engine knows of it."""
        self.num_outstanding += 1
        self.num_outstanding_tokens += request.input_tokens + request.output_tokens
        overhead = self._settings.overhead
        return overhead.request_s + overhead.input_token_s * request.input_tokens

    def add(self, request: TraceRequest, record: RequestRecord) -> None:
        """Queue a request whose time has come; its record is filled as it is served."""
        name = str(record.index)
        self._records[name] = record
        message = EngineRequest(
            request_id=name,
            prompt_token_ids=prompt_token_ids(request, record.index),
            sampling_params=_PARAMS,
            max_tokens=request.output_tokens,
            eos_token_ids=[],
            seed=0,
        )
        self._num_arrivals += 1
        self._scheduler.add(Request(message, arrival=self._num_arrivals))

    def begin_step(self) -> float:
        """Plan a step and compute what it will have sampled; returns the seconds that it takes.

        Nothing is added before ``end_step``, so settling the step now decides nothing that its end would not.
        """
        plan = self._scheduler.schedule()
        if not plan.rows:
            raise AssertionError("a replica that has work always has something to compute")
        num_samples = len(plan.samples)
        # Each output token is one of its own, below all prompts, so that no output is ever found as a prefix.
        first = -1 - self._num_sampled
        self._num_sampled += num_samples
        result = StepResult(list(range(first, first - num_samples, -1)))
        self._updates = self._scheduler.commit(plan, result)
        shape = StepShape.of(plan.starts, plan.counts, num_samples)
        overhead = self._settings.overhead
        return self._settings.step_time.step_seconds(shape) + overhead.step_s + overhead.step_seq_s * shape.num_seqs

    def end_step(self, now: float) -> list[RequestRecord]:
        """Write down the tokens of the step that ends; returns the records of the requests that it finished."""
        finished = []
        records = self._records
        for update in self._updates:
            record = records[update.request_id]
            record.chunk_times.append(now)
            if update.num_cached_tokens:
                record.cached_tokens = update.num_cached_tokens
            if update.finish_reason is not None:
                del records[update.request_id]
                record.finished_at = now
                record.output_tokens = len(record.chunk_times)
                self.num_outstanding -= 1
                self.num_outstanding_tokens -= record.input_tokens + record.output_tokens
                finished.append(record)
        self._updates = []
        return finished


def make_replicas(num_replicas: int, settings: ReplicaSettings) -> list[Replica]:
    """Return that many replicas, all alike."""
    return list(itertools.starmap(Replica, ((index, settings) for index in range(num_replicas))))
