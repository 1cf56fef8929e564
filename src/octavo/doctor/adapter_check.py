"""LoRA adapters: their files against the model, by the engine's own check; no weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from octavo.config.lora_modules import parse_lora_modules
from octavo.config.schema import ServerConfig
from octavo.doctor.findings import Findings
from octavo.engine.any_core import check_takes_adapters
from octavo.engine.lora.adapter_weights import open_adapter
from octavo.models.layers.lora import AdaptableModel
from octavo.models.layers.parameters import Placement
from octavo.models.pooling_files import ModelKind
from octavo.models.quantization.base import Dense
from octavo.models.registry import model_class

if TYPE_CHECKING:
    from octavo.models.config import ModelConfig


def check_adapters(config: ServerConfig, kind: ModelKind, findings: Findings) -> None:
    """Check each adapter that the server would begin with."""
    with findings.catching("LoRA adapters"):
        check_takes_adapters(config, kind)
    modules = parse_lora_modules(config.lora_modules)
    if not modules or kind.pooling is not None:
        return
    model_config = cast("ModelConfig", kind.config)
    placement = Placement(torch.float32, torch.device("meta"), linear_format=Dense(), head_format=Dense())
    projections = AdaptableModel(model_class(model_config.architecture)(model_config, placement)).projections
    for module in modules:
        with findings.catching(f"LoRA adapter {module.name}"):
            open_adapter(Path(module.path).expanduser(), projections, max_rank=config.max_lora_rank)
    if len(modules) > config.max_cpu_loras:
        findings.error(
            "LoRA adapters",
            f"there are {len(modules)} adapters, but max_cpu_loras is {config.max_cpu_loras}. Raise --max-cpu-loras.",
        )
