"""``batch_invariant``: promised where the native kernels compute, refused with the reason elsewhere."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import LLM
from octavo.config import EngineConfig, ServerConfig
from octavo.config.sources import load_partial_config
from octavo.doctor.validation import validate
from octavo.engine.batch_invariance import is_batch_invariant
from octavo.engine.builder import build_engine
from octavo.errors import ConfigError
from octavo.kernels import cpu
from octavo.models.config import ModelConfig
from tests.encoder_checkpoints import make_encoder

CPU = torch.device("cpu")
needs_native = pytest.mark.skipif(not cpu.has_native(), reason="torch's own products depend on the batch")


@needs_native
@pytest.mark.parametrize("asked", [None, True, False])
def test_it_holds_with_native_kernels_whatever_is_asked(
    checkpoint: Path, asked: bool | None, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"model": str(checkpoint), "kv_cache_memory_bytes": "1MiB", "cpu_threads": 1, "batch_invariant": asked}
    config = EngineConfig.model_validate(settings)
    with caplog.at_level(logging.INFO):
        built = build_engine(config, checkpoint, ModelConfig.from_directory(checkpoint), 64)
    assert built.ready.batch_invariant
    assert "batch-invariant: yes, bit for bit" in caplog.messages


@pytest.mark.usefixtures("without_native_kernels")
def test_it_is_refused_without_native_kernels(checkpoint: Path, tmp_path: Path) -> None:
    reason = r"^batch_invariant=true cannot be promised: there are no native CPU kernels \(OCTAVO_CPU_ISA is none\)"
    with pytest.raises(ConfigError, match=reason):
        LLM(str(checkpoint), batch_invariant=True)
    with pytest.raises(ConfigError, match=reason):
        LLM(str(make_encoder(tmp_path, "BertModel")), batch_invariant=True)
    assert not is_batch_invariant(EngineConfig(), CPU)


@pytest.mark.usefixtures("without_native_kernels")
def test_validate_says_so_before_anything_is_started(checkpoint: Path) -> None:
    flags: dict[str, Any] = {"model": str(checkpoint), "port": 0, "batch_invariant": True}
    findings = validate(load_partial_config(ServerConfig, flags, config_file=None, environ={}))
    (found,) = findings.items
    assert (found.severity, found.check) == ("error", "batch_invariant")


def test_it_is_refused_on_a_gpu() -> None:
    gpu = torch.device("cuda")
    with pytest.raises(ConfigError, match=r"on cuda torch computes.* Use --device cpu"):
        is_batch_invariant(EngineConfig(batch_invariant=True), gpu)
    assert not is_batch_invariant(EngineConfig(), gpu)
