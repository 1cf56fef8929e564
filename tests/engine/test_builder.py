"""What the start of an engine says about the native kernels."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from octavo.config import EngineConfig
from octavo.engine.builder import build_engine
from octavo.kernels.cpu import load_native, native_status
from octavo.models.config import ModelConfig


def build(checkpoint: Path) -> None:
    config = EngineConfig(model=str(checkpoint), kv_cache_memory_bytes="1MiB", cpu_threads=1)
    build_engine(config, checkpoint, ModelConfig.from_directory(checkpoint), 64)


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
