"""Times chosen steps of a real engine: so many decodes at such contexts, such chunks of prompts.

The scheduler, the block manager and the runner are those of the engine. Only what leads up to a timed step is skipped:
the runner takes over the requests without computing them, since what the KV cache holds does not change how long it
takes to read.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from octavo.engine.messages import EngineRequest
from octavo.engine.runner import Runner
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.step import StepPlan, StepResult
from octavo.engine.step_inputs import StepArrays
from octavo.kernels.cpu import has_native, load_native
from octavo.plan.memory import blocks_of_sequence
from octavo.plan.step_time import StepShape

if TYPE_CHECKING:
    from octavo.engine.core import EngineCore

_ENOUGH = 2**40


@dataclass(frozen=True, slots=True)
class Scenario:
    """Steps to time.

    Attributes:
        contexts: tokens that each decoding sequence has when the first timed step begins.
        prefills: tokens of each prompt that is computed in the timed step beside them.
        prefill_start: tokens of the first prompt that were computed before.
        samples_prefills: whether the prompts end with the step; else only one prompt is allowed.
    """

    contexts: tuple[int, ...] = ()
    prefills: tuple[int, ...] = ()
    prefill_start: int = 0
    samples_prefills: bool = True

    @property
    def num_tokens(self) -> int:
        """Tokens that the first timed step computes."""
        return len(self.contexts) + sum(self.prefills)

    @property
    def num_seqs(self) -> int:
        """Sequences that take part."""
        return len(self.contexts) + len(self.prefills)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max((*self.contexts, *(self.prefill_start + count for count in self.prefills)))

    def num_blocks(self, block_size: int, num_steps: int) -> int:
        """Return the KV blocks that ``num_steps`` steps of it need."""
        lengths = [*self.contexts, *(self.prefill_start + count for count in self.prefills)]
        return sum(blocks_of_sequence(length + num_steps + 2, block_size) for length in lengths)


@dataclass(frozen=True, slots=True)
class TimedStep:
    """A step that the engine computed."""

    shape: StepShape
    seconds: float


class StepTimer:
    """Brings an engine core into the state before a step, and times the step.

    Args:
        core: a core with a real ``Runner``, which no one else uses.
        vocab_size: the model's; prompts are random.
        sampling_params: how the tokens are chosen; greedily by default.
    """

    def __init__(self, core: EngineCore, vocab_size: int, sampling_params: SamplingParams | None = None) -> None:
        if not isinstance(core.runner, Runner):
            raise TypeError("only a runner with a model takes time")
        self._core = core
        self._runner = _ObservedRunner(core.runner)
        self._kv_caches = core.runner.kv_caches
        self._params = sampling_params or SamplingParams(temperature=0.0, ignore_eos=True)
        self._random = np.random.default_rng(0)
        self._vocab_size = vocab_size
        self._names = map(str, itertools.count())
        self._num_touched = 0

    def fits(self, scenario: Scenario, num_steps: int, max_model_len: int, max_num_seqs: int) -> bool:
        """Whether the engine could be in this state."""
        kv_cache = self._core.scheduler.kv_cache
        return (
            scenario.num_blocks(kv_cache.block_size, num_steps) <= kv_cache.pool.num_blocks
            and scenario.longest + num_steps + 2 <= max_model_len
            and scenario.num_seqs <= max_num_seqs
            and scenario.num_tokens <= self._core.scheduler.max_num_batched_tokens
        )

    def time(self, scenario: Scenario, num_steps: int = 1) -> list[TimedStep]:
        """Compute ``num_steps`` steps and return how long each took, from planning to the encoded output.

        With prompts in the scenario only the first step has them; the ones after it would be decodes of all sequences.
        """
        core, scheduler = self._core, self._core.scheduler
        self._touch(scenario.num_blocks(scheduler.kv_cache.block_size, num_steps))
        budget = scheduler.max_num_batched_tokens
        names: list[str] = []
        with self._observed():
            try:
                self._runner.computes = False
                scheduler.max_num_batched_tokens = _ENOUGH
                if scenario.contexts:
                    names += [self._add(length - 1) for length in scenario.contexts]
                    core.step()
                if scenario.prefill_start:
                    length = scenario.prefill_start + scenario.prefills[0]
                    names.append(self._add(length, is_cut=not scenario.samples_prefills))
                    scheduler.max_num_batched_tokens = len(scenario.contexts) + scenario.prefill_start
                    core.step()
                    names += [self._add(count) for count in scenario.prefills[1:]]
                else:
                    names += [self._add(count, is_cut=not scenario.samples_prefills) for count in scenario.prefills]
                self._runner.computes = True
                scheduler.max_num_batched_tokens = scenario.num_tokens
                timed = [self._time_step() for _ in range(num_steps)]
            finally:
                core.abort(names)
                scheduler.max_num_batched_tokens = budget
        return timed

    def _time_step(self) -> TimedStep:
        started = time.perf_counter()
        msgspec.msgpack.encode(self._core.step())
        return TimedStep(self._runner.shape, time.perf_counter() - started)

    def _add(self, prompt_len: int, *, is_cut: bool = False) -> str:
        name = next(self._names)
        token_ids = self._random.integers(0, self._vocab_size, prompt_len + is_cut).tolist()
        self._core.add(
            EngineRequest(
                request_id=name,
                prompt_token_ids=token_ids,
                sampling_params=self._params,
                max_tokens=_ENOUGH,
                eos_token_ids=[],
                seed=0,
            )
        )
        return name

    def _touch(self, num_blocks: int) -> None:
        """Write to so many blocks: memory that was never written is not really there, and is read faster."""
        with torch.inference_mode():
            for layer in self._kv_caches:
                for part in (layer.key, layer.value):
                    part[self._num_touched : num_blocks + 1].fill_(0.01)
        self._num_touched = max(self._num_touched, num_blocks + 1)

    @contextmanager
    def _observed(self) -> Iterator[None]:
        """Put the observing runner into the core; keep garbage collection out of the times.

        Prefix caching is off meanwhile, so that freed blocks are the next to be handed out and few are ever used.
        """
        runner, kv_cache = self._core.runner, self._core.scheduler.kv_cache
        was_caching, kv_cache.enable_prefix_caching = kv_cache.enable_prefix_caching, False
        self._core.runner = self._runner
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            self._core.runner = runner
            kv_cache.enable_prefix_caching = was_caching
            if was_enabled:
                gc.enable()


class _ObservedRunner:
    """Passes steps on to a runner and keeps their shape, or takes them over without computing anything."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.computes = True
        self.shape = StepShape(0, 0, 0, 0, 0)

    def execute(self, plan: StepPlan) -> StepResult:
        if not self.computes:
            state = self._runner.state
            state.apply(plan)
            state.append(StepArrays.of(plan), torch.zeros(len(plan.samples), dtype=torch.int64))
            return StepResult([0] * len(plan.samples))
        self.shape = StepShape.of(plan.starts, plan.counts, len(plan.samples))
        return self._runner.execute(plan)


def spread(num_seqs: int, mean_context: int) -> tuple[int, ...]:
    """Return contexts around a mean, from half to one and a half of it, in no order: traffic is never even."""
    if num_seqs == 1:
        return (mean_context,)
    even = [round(mean_context * (0.5 + index / (num_seqs - 1))) for index in range(num_seqs)]
    return tuple(np.random.default_rng(num_seqs).permutation(even).tolist())


def threads_and_processor(device: str) -> tuple[int, str | None]:
    """Return the threads that compute, and the name of the GPU if ``device`` is one."""
    num_threads = load_native().num_threads() if has_native() else torch.get_num_threads()
    return num_threads, torch.cuda.get_device_name(device) if device.startswith("cuda") else None
