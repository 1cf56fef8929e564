"""What the start of an engine says about the native kernels."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch

from octavo.config import EngineConfig
from octavo.engine.builder import build_engine, choose_dtype, kv_cache_bytes_per_token
from octavo.errors import ConfigError
from octavo.kernels.cpu import load_native, native_status
from octavo.models.config import ModelConfig

CPU = torch.device("cpu")


def build(checkpoint: Path) -> None:
    config = EngineConfig(model=str(checkpoint), kv_cache_memory_bytes="1MiB", cpu_threads=1)
    build_engine(config, checkpoint, ModelConfig.from_directory(checkpoint), 64)


@pytest.fixture
def broken(checkpoint: Path, tmp_path: Path) -> Path:
    """A model whose weights cannot be read."""
    copy = Path(shutil.copytree(checkpoint, tmp_path / "broken"))
    (copy / "model.safetensors").write_bytes(b"broken")
    return copy


def test_native_kernels_are_named_and_get_their_threads(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    if native_status().missing_because is not None:
        pytest.skip("no native module")
    load_native().set_num_threads(2)
    with caplog.at_level(logging.INFO):
        build(checkpoint)
    assert f"native CPU kernels: {native_status().active_isa}" in caplog.messages
    assert load_native().num_threads() == 1


@pytest.mark.usefixtures("without_native_kernels")
def test_missing_native_kernels_are_one_warning(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(checkpoint)
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("there are no native CPU kernels (OCTAVO_CPU_ISA is none): torch computes instead")


def test_a_kv_cache_that_is_too_small_is_refused_before_the_weights_are_read(broken: Path) -> None:
    config = EngineConfig(model=str(broken), kv_cache_memory_bytes=1000, cpu_threads=1)
    with pytest.raises(ConfigError, match=r"one sequence of max_model_len=64 needs .* is 1000 B"):
        build_engine(config, broken, ModelConfig.from_directory(broken), 64)


def test_a_draft_model_takes_its_part_of_the_kv_cache(checkpoint: Path, broken: Path) -> None:
    def config_for(model: Path, num_blocks: int, bytes_per_block: int) -> EngineConfig:
        return EngineConfig(
            model=str(model),
            speculative_config={"method": "draft_model", "model": str(model), "num_speculative_tokens": 2},
            kv_cache_memory_bytes=num_blocks * bytes_per_block,
            cpu_threads=1,
        )

    model_config = ModelConfig.from_directory(checkpoint)
    bytes_per_block = 16 * kv_cache_bytes_per_token(model_config, choose_dtype("auto", model_config.dtype, CPU))
    built = build_engine(config_for(checkpoint, 10, 2 * bytes_per_block), checkpoint, model_config, 64)
    assert built.ready.num_blocks == 9
    with pytest.raises(ConfigError, match="one sequence of max_model_len=64 needs"):
        build_engine(config_for(broken, 5, bytes_per_block), broken, model_config, 64)
