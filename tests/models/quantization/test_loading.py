"""Models whose weights are quantised while they are loaded: what is quantised, from what, and in how much memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.layers.decoder import CausalLM
from octavo.models.loading import LoadOptions, load_model, weight_bytes
from octavo.models.quantization.base import DenseWeight, Int4Weight, Int8Weight, LinearWeight
from octavo.models.quantization.choice import choose_formats
from octavo.models.quantization.rounding import quantize_int8
from tests.checkpoints import make_checkpoint
from tests.models.paged_run import PagedRun
from tests.models.quantization.packed_checkpoints import make_packed_checkpoint

CPU = torch.device("cpu")
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}


def load(
    directory: Path, method: str | None, dtype: torch.dtype = torch.float32, load_format: str = "auto"
) -> CausalLM:
    config = ModelConfig.from_directory(directory)
    formats = choose_formats(method, config.quantization)
    return load_model(directory, config, LoadOptions(dtype=dtype, device=CPU, load_format=load_format), formats=formats)


@pytest.mark.parametrize(("method", "held"), [("int8", Int8Weight), ("int4", Int4Weight)])
def test_layers_are_quantised_the_head_is_int8_and_the_rest_stays(
    method: str, held: type[LinearWeight], tmp_path: Path
) -> None:
    make_checkpoint(tmp_path, "llama", attention_bias=True)
    model = load(tmp_path, method, torch.bfloat16)
    weights = {name: module for name, module in model.named_modules() if isinstance(module, LinearWeight)}
    assert len(weights) == 3 * 4 + 2
    assert isinstance(weights.pop("lm_head.weight"), Int8Weight)
    embedding = weights.pop("embed_tokens.weight")
    assert isinstance(embedding, DenseWeight)
    assert embedding.weight.dtype == torch.bfloat16
    assert {type(weight) for weight in weights.values()} == {held}
    assert model.layers[0].self_attn.qkv_proj.bias.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_checkpoints_own_numbers_are_rounded_whatever_the_models_type(dtype: torch.dtype, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "llama")
    stored = load_file(tmp_path / "model.safetensors")["model.layers.1.self_attn.k_proj.weight"]
    (weight,) = load(tmp_path, "int8", dtype).layers[1].self_attn.qkv_proj.weights
    assert torch.equal(weight.dequantize()[64:96], quantize_int8(stored).dequantize())


def test_tied_head_and_embedding_are_one_int8_table(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen3", tie_word_embeddings=True)
    model = load(tmp_path, "int4")
    assert model.lm_head.weight is model.embed_tokens.weight
    expected = quantize_int8(load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]).dequantize()
    assert torch.equal(model.lm_head.weight.dequantize(), expected)
    token_ids = torch.tensor([3, 0, 3])
    assert torch.equal(model.embed_tokens(token_ids), expected[token_ids])


def test_tied_head_of_a_packed_checkpoint_is_the_embedding(tmp_path: Path) -> None:
    make_packed_checkpoint(tmp_path / "packed", tmp_path / "dense", "qwen3", GPTQ, tie_word_embeddings=True)
    model = load(tmp_path / "packed", None)
    assert isinstance(model.lm_head.weight, DenseWeight)
    assert model.lm_head.weight is model.embed_tokens.weight


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_needless_biases_of_gptq_must_be_zero(bias: float, tmp_path: Path) -> None:
    make_packed_checkpoint(tmp_path / "packed", tmp_path / "dense", "llama", GPTQ)
    path = tmp_path / "packed" / "model.safetensors"
    save_file(load_file(path) | {"model.layers.0.mlp.up_proj.bias": torch.full((96,), bias)}, path)
    if bias:
        with pytest.raises(ModelError, match=r"a bias model\.layers\.0\.mlp\.up_proj\.bias, but by its config\.json"):
            load(tmp_path / "packed", None)
    else:
        load(tmp_path / "packed", None)


def test_missing_parts_of_a_packed_checkpoint_are_named(tmp_path: Path) -> None:
    make_packed_checkpoint(tmp_path / "packed", tmp_path / "dense", "llama", GPTQ)
    path = tmp_path / "packed" / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.0.mlp.up_proj.g_idx"]
    tensors["model.layers.1.mlp.down_proj.qweight"] = torch.zeros(3, 64, dtype=torch.int32)
    tensors["model.layers.2.mlp.down_proj.scales"] = torch.zeros(3, 64, dtype=torch.int32)
    save_file(tensors, path)
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "packed", None)
    assert str(caught.value) == (
        "The checkpoint does not fit its config.json (LlamaForCausalLM). Tensors "
        "1 missing: model.layers.0.mlp.up_proj.g_idx; "
        "1 of a wrong shape: model.layers.1.mlp.down_proj.qweight is [3, 64], must be [12, 64]; "
        "1 of an unsupported type: model.layers.2.mlp.down_proj.scales is int32."
    )


@pytest.mark.parametrize("method", ["int8", "int4", "gptq"])
def test_dummy_weights_are_small_noise_of_the_seed(method: str, tmp_path: Path) -> None:
    if method == "gptq":
        make_packed_checkpoint(tmp_path / "packed", tmp_path / "dense", "llama", GPTQ)
    else:
        make_checkpoint(tmp_path / "packed", "llama")
    model, again = (load(tmp_path / "packed", method, load_format="dummy") for _ in range(2))
    for ours, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for module in model.modules():
        if isinstance(module, LinearWeight):
            assert 0.017 < module.dequantize().std() < 0.023
    (logits,) = PagedRun(model, [[1, 2, 3]], [3]).step([(0, 3)])
    assert logits.isfinite().all()


@pytest.mark.parametrize("method", ["int8", "int4", None])
def test_weight_bytes_are_those_of_the_loaded_model(method: str | None, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen2", tie_word_embeddings=True)
    config = ModelConfig.from_directory(tmp_path)
    loaded = sum(parameter.nbytes for parameter in load(tmp_path, method, torch.bfloat16).parameters())
    assert weight_bytes(config, dtype=torch.bfloat16, formats=choose_formats(method, None)) == loaded


LOAD_AND_MEASURE = """
import sys
from pathlib import Path
import torch
from octavo.models.config import ModelConfig
from octavo.models.loading import LoadOptions, load_model
from octavo.models.quantization.choice import choose_formats
from octavo.models.quantization.rounding import quantize_int4, quantize_int8

def kib(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

torch.set_num_threads(1)
for quantize in (quantize_int8, lambda weight: quantize_int4(weight, 64)):
    quantize(torch.ones(4, 64))  # what torch itself takes when it first computes
directory, method = Path(sys.argv[1]), sys.argv[2]
config = ModelConfig.from_directory(directory)
before = kib("VmRSS")
options = LoadOptions(torch.bfloat16, torch.device("cpu"))
model = load_model(directory, config, options, formats=choose_formats(method, None))
weights = sum(parameter.nbytes for parameter in model.parameters())
print((kib("VmHWM") - before) * 1024, weights)
"""


@pytest.fixture(scope="module")
def large_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """210 MB in float32, of which the layers are 200."""
    return make_checkpoint(
        tmp_path_factory.mktemp("large"),
        "llama",
        num_hidden_layers=12,
        hidden_size=512,
        intermediate_size=2048,
        vocab_size=2048,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("method", "share"), [("int8", 0.30), ("int4", 0.17)])
def test_peak_memory_is_the_quantised_weights_and_one_layer(method: str, share: float, large_checkpoint: Path) -> None:
    one_layer = 4 * (3 * 512 * 512 + 3 * 512 * 2048)
    stored = (large_checkpoint / "model.safetensors").stat().st_size
    code = [sys.executable, "-c", LOAD_AND_MEASURE, str(large_checkpoint), method]
    peak, weights = map(int, subprocess.run(code, check=True, capture_output=True, text=True).stdout.split())
    assert weights < share * stored
    assert peak <= weights + one_layer + 12 * 2**20  # what the interpreter itself still takes
