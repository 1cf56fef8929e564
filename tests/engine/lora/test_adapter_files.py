"""Adapters that are broken, of another model or of a kind that is not supported are refused with their reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from octavo.engine.lora.adapter_config import AdapterConfig
from octavo.engine.lora.adapter_weights import open_adapter
from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.layers.lora import AdaptableModel, Projection
from octavo.models.loading import LoadOptions, load_model
from tests.checkpoints import make_checkpoint
from tests.lora_adapters import CONFIG_FILE, WEIGHTS_FILE, edit_config, edit_tensors, make_adapter

Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def projections(checkpoint: Path) -> dict[str, Projection]:
    config = ModelConfig.from_directory(checkpoint)
    model = load_model(checkpoint, config, LoadOptions(dtype=torch.float32, device=CPU, load_format="dummy"))
    return dict(AdaptableModel(model).projections)


@pytest.fixture
def copy(adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter, tmp_path / "copy"))


Break = Callable[[Path], object]
WRONG: dict[str, tuple[Break, str]] = {
    "no configuration": (lambda path: (path / CONFIG_FILE).unlink(), "adapter_config.json cannot be read"),
    "not JSON": (lambda path: (path / CONFIG_FILE).write_text("{"), "cannot be read as JSON"),
    "deep JSON": (lambda path: (path / CONFIG_FILE).write_text("[" * 10**5), "cannot be read as JSON"),
    "not an object": (lambda path: (path / CONFIG_FILE).write_text("[]"), "must hold a JSON object, not a list"),
    "huge configuration": (lambda path: os.truncate(path / CONFIG_FILE, 2**21), "larger than 1,048,576 bytes"),
    "another method": (lambda path: edit_config(path, peft_type="IA3"), "peft_type is 'IA3'"),
    "biases": (lambda path: edit_config(path, bias="all"), "bias is 'all': trained biases are not supported"),
    "DoRA": (lambda path: edit_config(path, use_dora=True), "DoRA are not supported|use_dora is True"),
    "saved modules": (lambda path: edit_config(path, modules_to_save=["lm_head"]), "modules_to_save is"),
    "no rank": (lambda path: edit_config(path, r=None), "the rank r is None"),
    "rank of zero": (lambda path: edit_config(path, r=0), "the rank r is 0"),
    "alpha in words": (lambda path: edit_config(path, lora_alpha="much"), "the alpha lora_alpha is 'much'"),
    "endless alpha": (lambda path: edit_config(path, lora_alpha=float("inf")), "the alpha lora_alpha is inf"),
    "rslora in words": (lambda path: edit_config(path, use_rslora="yes"), "use_rslora is 'yes'"),
    "no targets": (lambda path: edit_config(path, target_modules=None), "target_modules is None"),
    "pattern of ranks": (lambda path: edit_config(path, rank_pattern={".*q": 2}), "rank_pattern has the key"),
    "list of alphas": (lambda path: edit_config(path, alpha_pattern=[1]), "alpha_pattern is"),
    "other targets": (lambda path: edit_config(path, target_modules=["q_proj"]), "target_modules .* names only q_proj"),
    "no weights": (lambda path: (path / WEIGHTS_FILE).unlink(), f"has no {WEIGHTS_FILE}"),
    "pickle": (lambda path: (path / WEIGHTS_FILE).rename(path / "adapter_model.bin"), "can run code when it is loaded"),
    "cut off": (lambda path: os.truncate(path / WEIGHTS_FILE, 1000), "is broken or incomplete"),
    "another rank": (lambda path: edit_config(path, r=5), r"is \[4, \d+\], must be \[5, \d+\]"),
    "missing half": (lambda path: edit_tensors(path, {f"{Q_PROJ}.lora_B.weight": None}), f"lacks {Q_PROJ}.lora_B"),
    "embedding": (
        lambda path: edit_tensors(path, {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 320)}),
        "has a tensor .*embed_tokens.lora_embedding_A, but what can be adapted is",
    ),
    "head": (
        lambda path: edit_tensors(path, {"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 64)}),
        "has a tensor .*lm_head.lora_A.weight",
    ),
    "integers": (
        lambda path: edit_tensors(path, {f"{Q_PROJ}.lora_A.weight": torch.zeros(4, 64, dtype=torch.int32)}),
        "has type I32",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_adapter_is_refused(name: str, copy: Path, projections: dict[str, Projection]) -> None:
    damage, message = WRONG[name]
    damage(copy)
    with pytest.raises(ModelError, match=message):
        open_adapter(copy, projections, max_rank=16)


def test_an_adapter_without_tensors_is_refused(copy: Path, projections: dict[str, Projection]) -> None:
    (copy / WEIGHTS_FILE).write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError, match="holds no tensors"):
        open_adapter(copy, projections, max_rank=16)


def test_a_rank_above_the_greatest_is_refused(adapter: Path, projections: dict[str, Projection]) -> None:
    with pytest.raises(ModelError, match=r"has rank 4 .*but max_lora_rank is 3. Start with --max-lora-rank 4"):
        open_adapter(adapter, projections, max_rank=3)


def test_an_adapter_of_a_wider_model_is_refused_with_its_base(
    tmp_path: Path, projections: dict[str, Projection]
) -> None:
    wide = make_checkpoint(tmp_path / "wide-base", "llama", hidden_size=128, num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"does not fit this model: .* trained on '.*wide-base'"):
        open_adapter(make_adapter(tmp_path / "wide", wide), projections, max_rank=16)


def test_an_adapter_of_a_deeper_model_is_refused(tmp_path: Path, projections: dict[str, Projection]) -> None:
    deep = make_checkpoint(tmp_path / "deep-base", "llama", num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"layers\.2\..* of 2 layers\."):
        open_adapter(make_adapter(tmp_path / "deep", deep), projections, max_rank=16)


def test_elements_are_counted_before_anything_is_read(adapter: Path, projections: dict[str, Projection]) -> None:
    files = open_adapter(adapter, projections, max_rank=16)
    deltas = files.read(torch.float32, CPU)
    assert files.num_elements == sum(delta.up.numel() + delta.down.numel() for delta in deltas.values())


def test_the_scale_is_that_of_peft(copy: Path) -> None:
    edit_config(copy, r=9, lora_alpha=6, rank_pattern={"layers.1.self_attn.q_proj": 4}, alpha_pattern={"q_proj": 2})
    config = AdapterConfig.from_directory(copy)
    assert config.scale_of("model.layers.0.mlp.up_proj") == pytest.approx(6 / 9)
    assert config.scale_of("model.layers.0.self_attn.q_proj") == pytest.approx(2 / 9)
    assert config.scale_of("model.layers.1.self_attn.q_proj") == pytest.approx(2 / 4)
    edit_config(copy, use_rslora=True)
    assert AdapterConfig.from_directory(copy).scale_of("model.layers.0.mlp.up_proj") == pytest.approx(6 / 3)
