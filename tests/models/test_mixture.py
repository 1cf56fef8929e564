"""Mixtures of experts under quantisation: experts are rounded, routers are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from octavo.models.config import ModelConfig
from octavo.models.layers.decoder import CausalLM
from octavo.models.layers.mixture import MixtureOfExperts
from octavo.models.loading import LoadOptions, load_model
from octavo.models.quantization.choice import choose_formats
from tests.checkpoints import make_checkpoint

LAYER = "model.layers.1"


def load(directory: Path, method: str, *, native: bool) -> CausalLM:
    return load_model(
        directory,
        ModelConfig.from_directory(directory),
        LoadOptions(dtype=torch.float32, device=torch.device("cpu"), native=native),
        formats=choose_formats(method, None),
    )


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(("method", "bound"), [("int8", 0.01), ("int4", 0.1)])
def test_experts_are_rounded_and_the_router_is_not(method: str, bound: float, native: bool, tmp_path: Path) -> None:
    tensors = load_file(make_checkpoint(tmp_path, "mixtral") / "model.safetensors")
    mixture = load(tmp_path, method, native=native).layers[1].mlp
    assert isinstance(mixture, MixtureOfExperts)
    name = f"{LAYER}.block_sparse_moe"
    assert torch.equal(mixture.router.logits.weights[0].dequantize(), tensors[f"{name}.gate.weight"])
    for index, expert in enumerate(mixture.experts):
        expected = torch.cat([tensors[f"{name}.experts.{index}.{part}.weight"] for part in ("w1", "w3")])
        error = expert.gate_up_proj.weights[0].dequantize() - expected
        assert 0 < (error.norm() / expected.norm()).item() < bound


def test_experts_that_the_checkpoint_has_in_one_tensor_are_rounded_too(tmp_path: Path) -> None:
    tensors = load_file(make_checkpoint(tmp_path, "gpt_oss") / "model.safetensors")
    mixture = load(tmp_path, "int8", native=True).layers[1].mlp
    for index, expert in enumerate(mixture.experts):
        columns = tensors[f"{LAYER}.mlp.experts.gate_up_proj"][index]
        expected = torch.cat((columns[:, 0::2], columns[:, 1::2]), dim=1).T
        error = expert.gate_up_proj.weights[0].dequantize() - expected
        assert 0 < (error.norm() / expected.norm()).item() < 0.01


def test_a_token_gets_the_same_bits_whatever_else_is_in_the_batch(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen3_moe")
    mixture = load(tmp_path, "int8", native=True).layers[0].mlp
    tokens = torch.randn(33, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = mixture(tokens)
        alone = torch.cat([mixture(token.unsqueeze(0)) for token in tokens])
    assert torch.equal(together, alone)
