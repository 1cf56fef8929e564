"""Small random LoRA adapters made by PEFT: the outside oracle of everything that has to do with adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.checkpoints import load_oracle

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


def make_adapter(directory: Path, base: Path, *, seed: int = 0, **overrides: Any) -> Path:
    """Save a random adapter of a checkpoint, strong enough to change greedy tokens, and return its directory.

    Args:
        overrides: fields of PEFT's ``LoraConfig``.
    """
    fields: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ALL_LINEAR, "task_type": "CAUSAL_LM"}
    model = get_peft_model(load_oracle(base), LoraConfig(**(fields | overrides)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.15, generator=generator)
    model.save_pretrained(directory)
    return directory


def load_adapted_oracle(base: Path, adapter: Path | None) -> PreTrainedModel:
    """Load a checkpoint with an adapter merged into it by PEFT; without one, the checkpoint alone."""
    if adapter is None:
        return load_oracle(base)
    merged: PreTrainedModel = PeftModel.from_pretrained(load_oracle(base), adapter).merge_and_unload()
    return merged.eval()


def edit_config(adapter: Path, **values: Any) -> None:
    """Change fields of an adapter's configuration."""
    path = adapter / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_tensors(adapter: Path, changed: dict[str, torch.Tensor | None]) -> None:
    """Replace or add tensors of an adapter; None removes one."""
    path = adapter / WEIGHTS_FILE
    tensors = load_file(path) | {name: tensor for name, tensor in changed.items() if tensor is not None}
    save_file({name: tensor for name, tensor in tensors.items() if changed.get(name, tensor) is not None}, path)
