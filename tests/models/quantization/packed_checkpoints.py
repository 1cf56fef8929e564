"""Whole GPTQ and AWQ checkpoints, each beside a dense one of the very same weights for transformers to run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from tests.checkpoints import make_checkpoint
from tests.models.quantization.packers import awq_tensors, gptq_tensors, random_integers

_WEIGHTS = "model.safetensors"


def make_packed_checkpoint(
    packed: Path, dense: Path, family: str, quantization: dict[str, Any], **overrides: Any
) -> None:
    """Write the two directories. ``quantization`` is the quantization_config of the packed one."""
    make_checkpoint(dense, family, tokenizer=True, **overrides)
    shutil.copytree(dense, packed)
    tensors = load_file(dense / _WEIGHTS)
    unpacked = dict(tensors)
    group_size = quantization["group_size"]
    for seed, name in enumerate(sorted(tensors)):
        if not name.endswith("_proj.weight") and not (name == "lm_head.weight" and quantization.get("lm_head")):
            continue
        matrix = random_integers(
            seed,
            *tensors[name].shape,
            bits=quantization["bits"],
            group_size=None if group_size == -1 else group_size,
            shuffled=quantization.get("desc_act", False),
            symmetric=quantization.get("sym", False),
            spread=0.5,
        )
        unpacked[name] = matrix.dense()
        del tensors[name]
        zero_offset = 0 if quantization.get("checkpoint_format") == "gptq_v2" else 1
        parts = awq_tensors(matrix) if quantization["quant_method"] == "awq" else gptq_tensors(matrix, zero_offset)
        tensors |= {f"{name.removesuffix('.weight')}.{part}": tensor for part, tensor in parts.items()}
    save_file(unpacked, dense / _WEIGHTS, {"format": "pt"})
    save_file(tensors, packed / _WEIGHTS, {"format": "pt"})
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
