"""Models that hold the matrices of a GGUF file as they are stored, against the same file dequantised."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from torch import Tensor

from octavo.errors import ConfigError, ModelError
from octavo.kernels.cpu import has_native
from octavo.models.config import ModelConfig
from octavo.models.layers.decoder import CausalLM
from octavo.models.loading import LoadOptions, load_model, weight_bytes
from octavo.models.quantization.base import LinearWeight
from octavo.models.quantization.choice import UNQUANTIZED, choose_formats
from octavo.models.quantization.mixed import MixedWeight
from tests.checkpoints import make_checkpoint
from tests.gguf_files import make_gguf
from tests.models.paged_run import PagedRun

CPU = torch.device("cpu")
TOKEN_IDS = torch.randint(0, 320, (20,), generator=torch.Generator().manual_seed(5)).tolist()
NATIVE = pytest.param(True, marks=pytest.mark.skipif(not has_native(), reason="no native kernels"), id="native")
IMPLEMENTATIONS = [pytest.param(False, id="torch"), NATIVE]
# As llama.cpp mixes them: the most sensitive matrices have more bits.
Q4_K_M = dict.fromkeys(("token_embd.weight", "blk.0.attn_v.weight", "blk.0.ffn_down.weight"), GGMLQuantizationType.Q6_K)
Q4_K_M |= {"blk.1.ffn_up.weight": GGMLQuantizationType.Q5_K, "blk.1.attn_output.weight": GGMLQuantizationType.F16}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "num_hidden_layers": 2}
    return make_checkpoint(tmp_path_factory.mktemp("llama"), "llama", tie_word_embeddings=True, **sizes)


def file_of(tmp_path: Path, checkpoint: Path, name: str) -> Path:
    if name == "Q4_K_M":
        kind, kinds = GGMLQuantizationType.Q4_K, Q4_K_M
    else:
        kind, kinds = GGMLQuantizationType[name], {}
    return make_gguf(tmp_path / f"{name}.gguf", checkpoint, tokenizer=False, kind=kind, kinds=kinds)


def load(path: Path, *, stored: bool = True, native: bool = False, load_format: str = "auto") -> CausalLM:
    config = ModelConfig.from_directory(path)
    formats = choose_formats("gguf", config.quantization) if stored else UNQUANTIZED
    return load_model(
        path,
        config,
        LoadOptions(dtype=torch.float32, device=CPU, native=native, load_format=load_format),
        formats=formats,
    )


@torch.no_grad()
def logits_of(model: CausalLM) -> Tensor:
    return PagedRun(model, [TOKEN_IDS], [len(TOKEN_IDS)]).step([(0, len(TOKEN_IDS))])[0]


def mixed_weights(model: CausalLM) -> dict[str, MixedWeight]:
    return {name: module for name, module in model.named_modules() if isinstance(module, MixedWeight)}


@pytest.mark.parametrize(
    ("name", "bound"), [("Q8_0", 1e-5), ("Q4_0", 1e-5), ("Q4_1", 1e-5), ("Q5_1", 1e-5), ("Q4_K_M", 5e-3)]
)
def test_logits_are_those_of_the_dequantised_file(name: str, bound: float, tmp_path: Path, checkpoint: Path) -> None:
    path = file_of(tmp_path, checkpoint, name)
    expected = logits_of(load(path, stored=False))
    assert ((logits_of(load(path)) - expected).norm() / expected.norm()).item() < bound


@pytest.mark.skipif(not has_native(), reason="no native kernels")
@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "Q5_1", "Q4_K_M"])
@torch.no_grad()
def test_native_products_differ_by_the_rounding_of_activations(name: str, tmp_path: Path, checkpoint: Path) -> None:
    path = file_of(tmp_path, checkpoint, name)
    plain, native = mixed_weights(load(path)), mixed_weights(load(path, native=True))
    assert plain.keys() == native.keys()
    for key, weight in plain.items():
        assert torch.equal(native[key].dequantize(), weight.dequantize())
        x = torch.randn(5, weight.input_size, generator=torch.Generator().manual_seed(1))
        name_of_call = "silu_and_mul" if "gate_up" in key else "forward"
        expected = getattr(weight, name_of_call)(x)
        error = getattr(native[key], name_of_call)(x) - expected
        assert (error.norm() / expected.norm()).item() < 0.02


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_projections_of_one_type_are_one_product(native: bool, tmp_path: Path, checkpoint: Path) -> None:
    model = load(file_of(tmp_path, checkpoint, "Q4_K_M"), native=native)
    num_parts = {name: len(weight.parts) for name, weight in mixed_weights(model).items()}
    assert (
        num_parts
        == {
            "embed_tokens.weight": 1,
            "layers.0.self_attn.qkv_proj.weights.0": 2,  # the values have another type
            "layers.0.self_attn.o_proj.weights.0": 1,
            "layers.0.mlp.gate_up_proj.weights.0": 1,
            "layers.0.mlp.down_proj.weights.0": 1,
            "layers.1.self_attn.qkv_proj.weights.0": 1,
            "layers.1.self_attn.o_proj.weights.0": 1,
            "layers.1.mlp.gate_up_proj.weights.0": 2,
            "layers.1.mlp.down_proj.weights.0": 1,
            "lm_head.weight": 1,
        }
        or num_parts.pop("lm_head.weight", 1) == 1
    )
    assert model.lm_head.weight is model.embed_tokens.weight


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
@torch.no_grad()
def test_rows_of_the_embedding_are_dequantised_as_they_are_looked_up(
    native: bool, tmp_path: Path, checkpoint: Path
) -> None:
    table = load(file_of(tmp_path, checkpoint, "Q4_K_M"), native=native).embed_tokens
    ids = torch.tensor([3, 0, 319, 3])
    assert torch.equal(table(ids), table.weight.dequantize()[ids])


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "ratio"), [("Q8_0", 1.0), ("Q4_0", 1.0), ("Q4_1", 1.0), ("Q4_K_M", 1.4)])
def test_loaded_model_takes_about_the_memory_of_its_file(
    name: str, ratio: float, native: bool, tmp_path: Path, checkpoint: Path
) -> None:
    path = file_of(tmp_path, checkpoint, name)
    model = load(path, native=native)
    matrices = sum(weight.num_bytes for weight in mixed_weights(model).values())
    stored = sum(tensor.n_bytes for tensor in GGUFReader(path).tensors if len(tensor.shape) > 1)
    assert matrices <= ratio * stored * 1.01


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K_M"])
def test_memory_is_known_from_the_header(name: str, tmp_path: Path, checkpoint: Path) -> None:
    path = file_of(tmp_path, checkpoint, name)
    config = ModelConfig.from_directory(path)
    loaded = sum(parameter.nbytes for parameter in load(path).parameters())
    assert weight_bytes(config, dtype=torch.float32, formats=choose_formats(None, config.quantization)) == loaded


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_dummy_weights_have_the_types_of_the_file(native: bool, tmp_path: Path, checkpoint: Path) -> None:
    path = file_of(tmp_path, checkpoint, "Q4_K_M")
    model = load(path, native=native, load_format="dummy")
    assert logits_of(model).isfinite().all()
    real = mixed_weights(load(path, native=native))
    for name, weight in mixed_weights(model).items():
        assert [type(part) for part in weight.parts] == [type(part) for part in real[name].parts]
        assert 0.01 < weight.dequantize().std().item() < 0.04


def test_file_can_be_rounded_anew(tmp_path: Path, checkpoint: Path) -> None:
    path = file_of(tmp_path, checkpoint, "Q8_0")
    config = ModelConfig.from_directory(path)
    model = load_model(
        path, config, LoadOptions(dtype=torch.float32, device=CPU), formats=choose_formats("int8", config.quantization)
    )
    assert not mixed_weights(model)
    expected = logits_of(load(path, stored=False))
    assert ((logits_of(model) - expected).norm() / expected.norm()).item() < 0.2


def test_unquantised_file_is_accepted_as_gguf(tmp_path: Path, checkpoint: Path) -> None:
    config = ModelConfig.from_directory(file_of(tmp_path, checkpoint, "F16"))
    assert choose_formats("gguf", config.quantization) == UNQUANTIZED


def test_scales_that_float16_cannot_hold_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    path = file_of(tmp_path, checkpoint, "Q4_K_M")
    tensor = next(tensor for tensor in GGUFReader(path).tensors if tensor.name == "blk.1.attn_q.weight")
    with path.open("r+b") as file:
        file.seek(int(tensor.data_offset))
        file.write(np.array([6e4], dtype=np.float16).tobytes() + b"\0\0" + b"\x3f" * 12)
    with pytest.raises(ModelError, match=r"model\.layers\.1\.self_attn\.q_proj\.weight has scales that float16 cannot"):
        load(path)


def test_load_format_says_what_a_model_must_be(tmp_path: Path, checkpoint: Path) -> None:
    path = file_of(tmp_path, checkpoint, "Q8_0")
    assert cast("LinearWeight", load(path, load_format="gguf").lm_head.weight).num_bytes
    with pytest.raises(ConfigError, match=r"load_format=safetensors was asked for, but .* is a GGUF file"):
        load(path, load_format="safetensors")
    config = ModelConfig.from_directory(checkpoint)
    with pytest.raises(ConfigError, match=r"load_format=gguf was asked for, but .* is no GGUF file"):
        load_model(checkpoint, config, LoadOptions(dtype=torch.float32, device=CPU, load_format="gguf"))
    with pytest.raises(ConfigError, match="quantization=gguf was asked for, but the checkpoint is not quantized"):
        choose_formats("gguf", config.quantization)
