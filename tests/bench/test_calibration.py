"""Calibrating a small model, and keeping what was found."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from octavo.bench.calibration import Calibration, calibrate, default_path, load_calibration, save_calibration
from octavo.bench.step_timing import Scenario, StepTimer, spread
from octavo.config import EngineConfig
from octavo.engine.builder import build_engine
from octavo.errors import ConfigError
from octavo.models.config import ModelConfig
from octavo.plan.step_time import StepShape
from tests.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model"), "llama", tokenizer=True)


def make_config(checkpoint: Path, **settings: object) -> EngineConfig:
    defaults = {"model": str(checkpoint), "max_model_len": 128, "kv_cache_memory_bytes": "4MiB", "cpu_threads": 1}
    return EngineConfig.model_validate(defaults | settings)


@pytest.fixture(scope="module")
def calibration(checkpoint: Path) -> Calibration:
    return calibrate(make_config(checkpoint), budget_s=2.0)


def test_what_was_measured_is_what_was_asked_for(calibration: Calibration) -> None:
    batches = {step.shape.num_seqs for step in calibration.steps if step.shape.num_tokens == step.shape.num_seqs}
    assert set(range(1, 7)) | {8, 16, 32} <= batches
    assert all(step.seconds > 0 for step in calibration.steps)
    assert (calibration.threads, calibration.dtype, calibration.device) == (1, "float32", "cpu")
    assert calibration.limits.max_model_len == 128
    assert calibration.quality.num_steps == len(calibration.steps)


def test_predictions_grow_with_the_batch(calibration: Calibration) -> None:
    def decode_s(batch: int) -> float:
        return calibration.step_time.step_seconds(StepShape.of([64] * batch, [1] * batch, batch))

    assert 0 < decode_s(1) < decode_s(32)


def test_a_kept_calibration_is_read_again(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "new" / "calibration.json"
    save_calibration(calibration, path)
    assert load_calibration(path) == calibration


def test_the_place_depends_on_shape_and_settings(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = default_path(make_config(checkpoint))
    assert path.is_relative_to(tmp_path / "octavo" / "calibration")
    assert default_path(make_config(checkpoint, max_num_seqs=3)) == path
    assert default_path(make_config(checkpoint, dtype="bfloat16")) != path
    assert default_path(make_config(checkpoint, cpu_threads=2)) != path
    larger = tmp_path_factory.mktemp("larger")
    fields = msgspec.json.decode((checkpoint / "config.json").read_bytes())
    (larger / "config.json").write_bytes(msgspec.json.encode(fields | {"num_hidden_layers": 7}))
    assert default_path(make_config(larger)).stem.rpartition("-")[2] != path.stem.rpartition("-")[2]


def test_files_that_are_no_calibration_are_refused(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(ConfigError, match="No such file"):
        load_calibration(path)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is not a calibration of octavo plan --calibrate"):
        load_calibration(path)
    save_calibration(msgspec.structs.replace(calibration, schema_version=99), path)
    with pytest.raises(ConfigError, match="of another version"):
        load_calibration(path)


def test_an_engine_that_allows_too_little_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="too few kinds of steps"):
        calibrate(make_config(checkpoint, max_model_len=4), budget_s=0.1)


@pytest.fixture(scope="module")
def timer(checkpoint: Path) -> StepTimer:
    model_config = ModelConfig.from_directory(checkpoint)
    built = build_engine(make_config(checkpoint), checkpoint, model_config, 128)
    return StepTimer(built.core, model_config.vocab_size)


@pytest.mark.parametrize(
    ("scenario", "shape"),
    [
        (Scenario(contexts=(10, 30)), StepShape.of([9, 29], [1, 1], 2)),
        (Scenario(prefills=(8,)), StepShape.of([0], [8], 1)),
        (Scenario(prefills=(8,), samples_prefills=False), StepShape.of([0], [8], 0)),
        (Scenario(prefills=(8, 6)), StepShape.of([0, 0], [8, 6], 2)),
        (Scenario(prefills=(8,), prefill_start=20), StepShape.of([20], [8], 1)),
        (Scenario(contexts=(10, 30), prefills=(8,)), StepShape.of([9, 29, 0], [1, 1, 8], 3)),
        (Scenario(contexts=(10,), prefills=(8, 6), prefill_start=5), StepShape.of([10, 5, 0], [1, 8, 6], 3)),
    ],
)
def test_the_timed_step_is_the_one_that_was_asked_for(timer: StepTimer, scenario: Scenario, shape: StepShape) -> None:
    (timed,) = timer.time(scenario)
    assert timed.shape == shape
    assert timed.seconds > 0


def test_decodes_go_on_from_step_to_step(timer: StepTimer) -> None:
    timed = timer.time(Scenario(contexts=(10, 30)), 3)
    assert [step.shape.num_context_tokens for step in timed] == [40, 42, 44]


def test_what_does_not_fit_is_known_before(timer: StepTimer) -> None:
    assert timer.fits(Scenario(contexts=(100,) * 8), 3, max_model_len=128, max_num_seqs=8)
    assert not timer.fits(Scenario(contexts=(100,) * 8), 3, max_model_len=128, max_num_seqs=7)
    assert not timer.fits(Scenario(contexts=(125,)), 3, max_model_len=128, max_num_seqs=8)
    assert not timer.fits(Scenario(contexts=(100,) * 10_000), 3, max_model_len=128, max_num_seqs=10_000)


def test_spread_contexts_have_their_mean() -> None:
    for batch in (1, 2, 5, 32):
        contexts = spread(batch, 200)
        assert len(contexts) == batch
        assert sum(contexts) / batch == pytest.approx(200, abs=1)
    assert (min(contexts), max(contexts)) == (100, 300)
