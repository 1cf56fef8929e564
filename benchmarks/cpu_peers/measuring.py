"""Rounds: workers and servers are started once, warmed up, and take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cpu_peers import cases
from benchmarks.cpu_peers.cases import Case, Figures, Load
from benchmarks.cpu_peers.served import Server, served
from benchmarks.cpu_peers.variants import Variant
from benchmarks.cpu_peers.worker_process import WorkerError, WorkerProcess, started_worker
from benchmarks.report import progress
from benchmarks.shapes import Qwen3Shape

_Taker = Callable[[Load], Figures]
_MAX_MODEL_LEN = 2048
# Of the memory measurement: room for one sequence of that length.
_KV_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Setting:
    """What all measurements of a run share.

    Attributes:
        paths: the checkpoints, as ``make_checkpoints`` returns them.
        pythons: of the environment of each engine; an engine that has none is reported as missing.
        directory: for the logs of what is started.
    """

    shape: Qwen3Shape
    load: Load
    threads: int
    rounds: int
    paths: dict[str, Path]
    pythons: dict[str, Path]
    directory: Path


def measure_case(case: Case, variants: Sequence[Variant], setting: Setting) -> dict[str, Any]:
    """Measure one case with all variants, round by round.

    Returns:
        For each variant either its ``rounds`` and ``version``, or what is ``missing``.
    """
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        takers: dict[str, _Taker] = {}
        for variant in variants:
            if case.call not in (*variant.calls, "load", "memory") and not (
                case.is_served and variant.flags is not None
            ):
                continue
            progress(f"{case.name}: {variant.name}")
            try:
                takers[variant.name], version = _prepare(case, variant, setting, stack)
                if case.call not in ("load", "memory"):
                    takers[variant.name](setting.load.warm_up)
                results[variant.name] = {"version": version, "rounds": []}
            except WorkerError as error:
                takers.pop(variant.name, None)
                results[variant.name] = {"missing": str(error)}
                progress(f"{variant.name} is missing: {error}")
        for number in range(setting.rounds):
            names = list(takers)
            for name in names if number % 2 == 0 else reversed(names):
                try:
                    figures = takers[name](setting.load)
                except WorkerError as error:
                    del takers[name]
                    results[name] = {"missing": str(error)}
                    progress(f"{name} is missing: {error}")
                    continue
                progress(f"{case.name}, round {number + 1}: {name} {figures[case.main]:.3g}")
                results[name]["rounds"].append(figures)
    return results


def _prepare(case: Case, variant: Variant, setting: Setting, stack: ExitStack) -> tuple[_Taker, str]:
    """Start what a variant needs; return what measures one round of a load, and the peer's version."""
    shape = setting.shape
    if variant.engine not in setting.pythons:
        raise WorkerError(f"there is no environment with {variant.engine}")
    if case.name in ("ready", "memory"):
        measure = _measure_ready if case.name == "ready" else _measure_memory
        return lambda load: measure(variant, setting), ""
    if case.is_served and variant.flags is not None:
        server = stack.enter_context(_serve(variant, setting))
        return lambda load: cases.measure_serving(server.stream, shape, load), ""
    worker = stack.enter_context(_start(variant, setting))
    if case.is_served:
        stream = lambda prompts, num_tokens: worker.call("serve", prompts=prompts, num_tokens=num_tokens)  # noqa: E731
        return lambda load: cases.measure_serving(stream, shape, load), worker.version
    if case.name == "prefill":
        return lambda load: cases.measure_prefill(worker, shape, load), worker.version
    if case.name == "second-turn":
        return lambda load: cases.measure_second_turn(worker, shape, load), worker.version
    return lambda load: cases.measure_decode(worker, variant, case.batch_size, shape, load), worker.version


def _start(variant: Variant, setting: Setting) -> Any:
    return started_worker(
        variant.worker,
        setting.pythons[variant.engine],
        setting.threads,
        setting.directory / f"{variant.name}.log",
        model=str(setting.paths[variant.file]),
        **variant.options,
    )


def _serve(variant: Variant, setting: Setting, *flags: str) -> Any:
    log = setting.directory / f"{variant.name} serve.log"
    flags = (*(variant.flags or ()), "--max-model-len", str(_MAX_MODEL_LEN), *flags)
    return served(setting.paths[variant.file], flags, setting.threads, log)


def _measure_ready(variant: Variant, setting: Setting) -> Figures:
    """Time until the server answers, or until a peer's process has its model. Its files are in the page cache."""
    _read(setting.paths[variant.file])
    if variant.flags is not None:
        server: Server
        with _serve(variant, setting) as server:
            return {"ready_s": server.ready_s}
    worker: WorkerProcess
    with _start(variant, setting) as worker:
        return {"ready_s": worker.ready_s, "load_s": worker.load_s}


def _read(path: Path) -> None:
    """Read a file, or those of a directory, once: the system may have let go of what nobody read for a while."""
    for file in path.iterdir() if path.is_dir() else [path]:
        with file.open("rb") as content:
            while content.read(2**24):
                pass


def _measure_memory(variant: Variant, setting: Setting) -> Figures:
    """Fill a small KV cache and look at what all processes take."""
    shape, load = setting.shape, setting.load
    weights_bytes = variant.weight_bytes(shape)
    if variant.flags is None:
        worker: WorkerProcess
        with _start(variant, setting) as worker:
            cases.measure_decode(worker, variant, 1, shape, load)
            kv_bytes = shape.kv_bytes(load.prompt_len + load.num_tokens, 2)
            return cases.memory_figures(worker.call("memory")["pss_bytes"], weights_bytes, kv_bytes)
    length = load.prompt_len + load.num_tokens
    server: Server
    with _serve(variant, setting, "--kv-cache-memory-bytes", str(_KV_CACHE_BYTES)) as server:
        # Enough prompts, none of which is like another, for each block to have been used.
        for _ in range(1 + _KV_CACHE_BYTES // shape.kv_bytes(load.num_streams * length, 2)):
            cases.measure_serving(server.stream, shape, load)
        return cases.memory_figures(server.memory_bytes(), weights_bytes, _KV_CACHE_BYTES)
