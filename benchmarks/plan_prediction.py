"""Predicted beside measured decode steps: what a calibration says of batches and contexts that it has not seen."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.environment import describe_environment, describe_torch
from benchmarks.generation import random_prompts
from benchmarks.octavo_generation import OctavoGenerator
from benchmarks.report import add_output_options, markdown_table, output_path, progress, write_json
from benchmarks.shapes import QUICK, QWEN3_0_6B, Qwen3Shape
from octavo.bench.calibration import Calibration, calibrate
from octavo.bench.step_timing import Scenario, StepTimer, spread
from octavo.config import EngineConfig
from octavo.models.config import ModelConfig
from octavo.models.hub import resolve_model
from octavo.plan.step_time import StepShape

GOAL_ERROR = 0.15
# None of these batches is timed by the calibration, apart from the ends of the range.
GENERATED_BATCHES = (1, 7, 14, 18, 28, 32)
TIMED_BATCHES = (1, 7, 9, 14, 18, 22, 28, 32)


@dataclass(frozen=True, slots=True)
class Load:
    """What is measured to test the predictions.

    Attributes:
        prompt_len, num_tokens: of sequences that are really generated, prompts included.
        contexts: mean lengths at which steps alone are timed, of equal and of unequal sequences.
        repeats: measurements of each; medians count.
    """

    prompt_len: int
    num_tokens: int
    contexts: tuple[int, ...]
    repeats: int


@dataclass(frozen=True, slots=True)
class Model:
    """A model to predict.

    Attributes:
        shape: None for the model in the box.
        budget_s: of the calibration.
    """

    name: str
    shape: Qwen3Shape | None
    load: Load
    budget_s: float


MODELS = (
    Model("octavo-nano", None, Load(prompt_len=96, num_tokens=32, contexts=(160, 600), repeats=5), budget_s=60),
    Model(QWEN3_0_6B.name, QWEN3_0_6B, Load(prompt_len=24, num_tokens=12, contexts=(120, 400), repeats=3), budget_s=90),
)
QUICK_MODELS = (Model(QUICK.name, QUICK, Load(prompt_len=24, num_tokens=8, contexts=(96,), repeats=1), budget_s=20),)


def predict_and_measure(model: Model, directory: Path) -> tuple[Calibration, list[dict[str, Any]]]:
    """Calibrate, then measure what the calibration has not seen."""
    settings: dict[str, Any] = {"model": str(directory), "max_model_len": 4096, "dtype": "float32", "device": "cpu"}
    if model.shape is not None:
        settings |= {"load_format": "dummy", "kv_cache_memory_bytes": model.shape.kv_bytes(10_000, 4)}
    calibration = calibrate(EngineConfig.model_validate(settings), budget_s=model.budget_s, progress=progress)
    generator = OctavoGenerator(directory, **{name: settings[name] for name in settings if name != "model"})
    vocab_size = ModelConfig.from_directory(directory).vocab_size
    timer = StepTimer(generator.core, vocab_size)
    measured: dict[tuple[str, int, int], list[tuple[float, float]]] = {}
    for repeat in range(model.load.repeats):
        progress(f"{model.name}: measuring unseen batches, repetition {repeat + 1} of {model.load.repeats}")
        for batch in GENERATED_BATCHES:
            times = _generate(generator, calibration, model.load, batch, vocab_size, seed=repeat * 100 + batch)
            measured.setdefault(("generated", batch, model.load.prompt_len), []).append(times)
        for context in model.load.contexts:
            for batch in TIMED_BATCHES:
                for kind, contexts in (("equal", (context,) * batch), ("unequal", spread(batch, context))):
                    scenario = Scenario(contexts=contexts)
                    if timer.fits(scenario, 3, 4096, 256) and (kind == "equal" or batch > 1):
                        times = _time_steps(timer, calibration, scenario)
                        measured.setdefault((kind, batch, context), []).append(times)
    return calibration, [_result(key, times) for key, times in measured.items()]


def _generate(
    generator: OctavoGenerator, calibration: Calibration, load: Load, batch: int, vocab_size: int, seed: int
) -> tuple[float, float]:
    """Return the predicted and the measured seconds of a decode step of real sequences."""
    prompts = random_prompts(batch, load.prompt_len, vocab_size, seed)
    measured = generator.generate(prompts, load.num_tokens).decode_s
    lengths = range(load.prompt_len, load.prompt_len + load.num_tokens - 1)
    steps = [StepShape.of([length] * batch, [1] * batch, batch) for length in lengths]
    predicted = sum(map(calibration.step_time.step_seconds, steps))
    return predicted / len(steps), measured / len(steps)


def _time_steps(timer: StepTimer, calibration: Calibration, scenario: Scenario) -> tuple[float, float]:
    """Return the predicted and the measured seconds of the middle one of three steps."""
    timed = sorted(timer.time(scenario, 3), key=lambda step: step.seconds)[1]
    return calibration.step_time.step_seconds(timed.shape), timed.seconds


def _result(key: tuple[str, int, int], times: Sequence[tuple[float, float]]) -> dict[str, Any]:
    predicted, measured = (sorted(values)[len(values) // 2] for values in zip(*times, strict=True))
    kind, batch, context = key
    return {
        "sequences": kind,
        "batch_size": batch,
        "context": context,
        "predicted_ms": predicted * 1e3,
        "measured_ms": measured * 1e3,
        "ratio": predicted / measured,
        "measured_all_ms": [one * 1e3 for _, one in times],
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_prediction", description=__doc__)
    add_output_options(parser)
    args = parser.parse_args()
    environment = describe_environment() | describe_torch()
    outcomes, rows, goals = [], [], []
    for model in QUICK_MODELS if args.quick else MODELS:
        with tempfile.TemporaryDirectory() as made:
            directory = resolve_model(model.name) if model.shape is None else Path(made)
            if model.shape is not None:
                model.shape.write_config(directory, "float32")
            started = time.perf_counter()
            calibration, results = predict_and_measure(model, directory)
        errors = sorted(abs(result["ratio"] - 1) for result in results)
        goals.append({"goal": f"{model.name}: greatest error", "value": errors[-1], "limit": GOAL_ERROR})
        goals[-1]["met"] = errors[-1] <= GOAL_ERROR
        outcomes.append(
            {
                "model": model.name,
                "load": asdict(model.load),
                "calibration": {
                    "quality": msgspec.to_builtins(calibration.quality),
                    "step_time": msgspec.to_builtins(calibration.step_time),
                },
                "median_error": errors[len(errors) // 2],
                "max_error": errors[-1],
                "took_s": time.perf_counter() - started,
                "results": results,
            }
        )
        rows += [
            [
                model.name,
                result["sequences"],
                result["batch_size"],
                result["context"],
                *(f"{result[name]:.2f}" for name in ("measured_ms", "predicted_ms", "ratio")),
            ]
            for result in results
        ]
    header = ["model", "sequences", "batch", "context", "measured, ms", "predicted, ms", "ratio"]
    print(markdown_table(header, rows))
    for goal, outcome in zip(goals, outcomes, strict=True):
        print(f"\n{goal['goal']}: {goal['value']:.3f}, at most {GOAL_ERROR}: {'met' if goal['met'] else 'MISSED'}")
        print(f"median error {outcome['median_error']:.3f}, took {outcome['took_s']:.0f} s")
    write_json(
        output_path(args, "plan_prediction"),
        {"benchmark": "plan_prediction", "environment": environment, "goals": goals, "results": outcomes},
    )


if __name__ == "__main__":
    main()
