"""A calibration: step times of one model on one machine, measured, fitted, and kept in a file for plan and simulate.

Reading one needs no torch; measuring builds a real engine.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from octavo.bench.files import write_whole
from octavo.bench.machine import describe_machine
from octavo.bench.step_time_fit import FitQuality, MeasuredStep, fit_quality, fit_step_time
from octavo.config import EngineConfig
from octavo.errors import ConfigError
from octavo.models.config import ModelConfig
from octavo.models.hub import resolve_model
from octavo.plan.calibrated_step_time import CalibratedStepTime
from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.bench.step_timing import Scenario, StepTimer
    from octavo.plan.step_time import StepShape

SCHEMA_VERSION = 1
DEFAULT_BUDGET_S = 90.0

_NUM_DECODE_STEPS = 3
_MIN_ROUNDS = 1
_MAX_ROUNDS = 6
# Parts of the time budget: up to here a step is timed several times in a row, and from there on not at all.
_FAST_SHARE = 0.001
_TOO_SLOW_SHARE = 0.04
_BATCHES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 64, 128, 256)
_CHUNKS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_SHAPE_FIELDS = (
    "architecture",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "tie_word_embeddings",
    "layer_windows",
)


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine that was measured would allow; a simulated replica has the same unless told otherwise."""

    num_blocks: int
    block_size: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int


class ServingOverhead(msgspec.Struct, frozen=True, kw_only=True):
    """Time that a server spends around the steps of its engine.

    Attributes:
        request_s: each request, both ways: connection, parsing, tokenizer, IPC, detokenizer.
        input_token_s: on top for each token of the prompt.
        step_s: between two steps of a busy engine: taking messages and sending outputs.
        step_seq_s: on top for each sequence of a step: the server's other process sends what the engine has made, on
            the same processor.
    """

    request_s: float = 0.0
    input_token_s: float = 0.0
    step_s: float = 0.0
    step_seq_s: float = 0.0


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured and what was made of it.

    Attributes:
        model: as it was named.
        processor: the CPU or GPU that computed.
        threads: of the computation on a CPU.
        dtype: of weights and activations.
        quality: of the fit on the measured steps themselves.
        overhead: all zero until it was measured, too.
    """

    created_at: str
    octavo_version: str
    model: str
    processor: str
    device: str
    threads: int
    dtype: str
    limits: EngineLimits
    step_time: CalibratedStepTime
    quality: FitQuality
    steps: tuple[MeasuredStep, ...]
    overhead: ServingOverhead = ServingOverhead()
    schema_version: int = SCHEMA_VERSION


def calibrate(
    config: EngineConfig,
    *,
    budget_s: float = DEFAULT_BUDGET_S,
    progress: Callable[[str], None] | None = None,
) -> Calibration:
    """Build the engine, time its steps over batches, contexts, chunks and mixtures of them, and fit the formula.

    The order of the measurements is shuffled in every round, so that a disturbance does not fall on one kind of step.

    Args:
        config: of the engine; ``load_format=dummy`` needs no weights, and takes the same time.
        budget_s: seconds after which no new round is begun. Every kind of step is measured at least twice.
        progress: told what is going on, one line each time.

    Raises:
        ConfigError, ModelError: the engine cannot be built, or its limits allow too few kinds of steps.
    """
    from octavo.bench.step_timing import StepTimer, threads_and_processor
    from octavo.engine.builder import build_engine  # this and the next load torch

    say = progress or (lambda _: None)
    directory = resolve_model(config.model, revision=config.revision, weights=config.load_format != "dummy")
    model_config = ModelConfig.from_directory(directory)
    max_model_len = config.max_model_len or model_config.default_max_model_len
    say("building the engine")
    built = build_engine(config, directory, model_config, max_model_len)
    timer = StepTimer(built.core, model_config.vocab_size)
    scenarios = [
        scenario
        for scenario in make_scenarios()
        if timer.fits(scenario, _NUM_DECODE_STEPS, max_model_len, config.max_num_seqs)
    ]
    steps = measure(timer, scenarios, budget_s=budget_s, progress=say)
    step_time = fit_step_time(steps)
    threads, processor = threads_and_processor(built.ready.device)
    return Calibration(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        octavo_version=__version__,
        model=config.model,
        processor=processor or describe_machine()["cpu"],
        device=built.ready.device,
        threads=threads,
        dtype=built.ready.dtype,
        limits=EngineLimits(
            num_blocks=built.ready.num_blocks,
            block_size=built.ready.block_size,
            max_model_len=max_model_len,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=built.core.scheduler.max_num_batched_tokens,
        ),
        step_time=step_time,
        quality=fit_quality(step_time, steps),
        steps=tuple(steps),
    )


def make_scenarios() -> list[Scenario]:
    """Return the steps that a calibration wants to time, from small to large."""
    from octavo.bench.step_timing import Scenario, spread

    # Sequences of equal and of unequal lengths take turns: real ones are unequal, those of load tests often equal.
    decodes = [Scenario(contexts=(64,) * batch) for batch in _BATCHES]
    decodes += [Scenario(contexts=spread(batch, 256)) for batch in _BATCHES[::2]]
    decodes += [Scenario(contexts=(256,) * batch) for batch in _BATCHES[1::2]]
    decodes += [Scenario(contexts=spread(batch, 512)) for batch in _BATCHES[2::4]]
    decodes += [Scenario(contexts=(512,) * batch) for batch in _BATCHES[3::4]]
    decodes += [Scenario(contexts=spread(batch, 1024)) for batch in _BATCHES[::3]]
    decodes += [Scenario(contexts=(1024,) * batch) for batch in _BATCHES[1::3]]
    decodes += [Scenario(contexts=spread(batch, 3072)) for batch in (1, 4, 8)]
    prefills = [Scenario(prefills=(count,)) for count in _CHUNKS]
    cut = [Scenario(prefills=(count,), samples_prefills=False) for count in (4, 16, 64, 256, 1024)]
    later = [Scenario(prefills=(count,), prefill_start=start) for count, start in ((64, 256), (256, 512), (512, 1536))]
    several = [Scenario(prefills=(16,) * 8), Scenario(prefills=(64,) * 4), Scenario(prefills=(256,) * 4)]
    mixed = [
        Scenario(contexts=spread(batch, context), prefills=(count,))
        for batch, context, count in ((4, 128, 16), (8, 256, 128), (16, 128, 64), (16, 256, 512), (32, 256, 256))
    ]
    return sorted([*decodes, *prefills, *cut, *later, *several, *mixed], key=lambda scenario: scenario.num_tokens)


def measure(
    timer: StepTimer, scenarios: Sequence[Scenario], *, budget_s: float, progress: Callable[[str], None]
) -> list[MeasuredStep]:
    """Time scenarios in rounds and return a typical duration of each.

    From the first that takes too long on they are left out. The first time of each counts only if it is long: it makes
    buffers that are there the next time.

    Args:
        scenarios: from small to large.
    """
    started = time.monotonic()
    durations: dict[Scenario, list[float]] = {}
    shapes: dict[Scenario, StepShape] = {}
    fast_s, too_slow_s = budget_s * _FAST_SHARE, budget_s * _TOO_SLOW_SHARE
    progress(f"trying {len(scenarios)} kinds of steps")
    for scenario in scenarios:
        (step,) = timer.time(scenario)
        if step.seconds > too_slow_s:
            (step,) = timer.time(scenario)  # perhaps something else was in the way
        shapes[scenario] = step.shape
        durations[scenario] = [step.seconds] if step.seconds > fast_s else []
        if step.seconds > too_slow_s:
            break
    rng = random.Random(0)
    order = list(shapes)
    for number in range(1, _MAX_ROUNDS + 1):
        if number > _MIN_ROUNDS and (time.monotonic() - started) * (number + 1) / number > budget_s:
            break
        progress(f"timing {len(order)} kinds of steps, round {number}")
        rng.shuffle(order)
        for scenario in order:
            is_repeated = not scenario.prefills and min(durations[scenario], default=0.0) <= fast_s
            timed = timer.time(scenario, _NUM_DECODE_STEPS if is_repeated else 1)
            durations[scenario] += [step.seconds for step in timed]
    return [MeasuredStep(shapes[scenario], _typical(seconds)) for scenario, seconds in durations.items()]


def _typical(seconds: Sequence[float]) -> float:
    """Return a duration that a third of the measured ones do not exceed: whatever disturbs, it only ever delays."""
    return sorted(seconds)[(len(seconds) - 1) // 3]


def default_path(config: EngineConfig) -> Path:
    """Return where the calibration of an engine on this machine is kept: by model shape, settings and processor."""
    directory = resolve_model(config.model, revision=config.revision, weights=False)
    model_config = ModelConfig.from_directory(directory)
    shape = repr([getattr(model_config, name) for name in _SHAPE_FIELDS])
    threads = config.cpu_threads or len(os.sched_getaffinity(0))
    machine = f"{describe_machine()['cpu']} {threads} threads {config.device} {config.dtype} block {config.block_size}"
    key = hashlib.blake2b(f"{shape} {machine}".encode(), digest_size=6).hexdigest()
    name = re.sub(r"[^A-Za-z0-9.]+", "-", Path(config.model).name).strip("-")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "octavo" / "calibration" / f"{name}-{key}.json"


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as JSON, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent}: {error.strerror or error}") from error
    write_whole(path, msgspec.json.format(msgspec.json.encode(calibration), indent=1))


def load_calibration(path: Path) -> Calibration:
    """Read what ``save_calibration`` wrote.

    Raises:
        ConfigError: there is no such file, or it is no calibration of this version.
    """
    try:
        calibration = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is not a calibration of octavo plan --calibrate: {error}") from error
    if calibration.schema_version != SCHEMA_VERSION:
        raise ConfigError(
            f"{path} is a calibration of another version of Octavo; make a new one with octavo plan --calibrate"
        )
    return calibration
