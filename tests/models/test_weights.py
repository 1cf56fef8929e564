"""Reading checkpoints: everything that is wrong with one is named at once, and memory stays near the weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.loading import LoadOptions, load_model
from octavo.models.weights import iterate_checkpoint
from tests.checkpoints import make_checkpoint
from tests.models.paged_run import PagedRun, load_float32

CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path, "llama", num_hidden_layers=2)


def rewrite(directory: Path, changes: dict[str, Tensor | None]) -> None:
    """Replace, add or (with None) take out tensors of a checkpoint."""
    tensors = load_file(directory / "model.safetensors") | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, directory / "model.safetensors")


def last_logits(directory: Path) -> Tensor:
    prompt = [1, 2, 3, 4, 5]
    (logits,) = PagedRun(load_float32(directory), [prompt], [5]).step([(0, 5)])
    return logits


def test_everything_that_does_not_fit_is_named_at_once(checkpoint: Path) -> None:
    rewrite(
        checkpoint,
        {
            "model.norm.weight": None,
            "model.layers.1.self_attn.k_proj.weight": None,
            "model.layers.0.self_attn.q_proj.bias": torch.zeros(64),
            "model.layers.2.mlp.up_proj.weight": torch.zeros(1),
            "model.layers.0.mlp.down_proj.weight": torch.zeros(96, 64),
            "model.layers.1.mlp.up_proj.weight": torch.zeros(96, 64, dtype=torch.int8),
        },
    )
    with pytest.raises(ModelError) as caught:
        load_float32(checkpoint)
    assert str(caught.value) == (
        "The checkpoint does not fit its config.json (LlamaForCausalLM). Tensors "
        "2 missing: model.layers.1.self_attn.k_proj.weight, model.norm.weight; "
        "2 not part of the model: model.layers.0.self_attn.q_proj.bias, model.layers.2.mlp.up_proj.weight; "
        "1 of a wrong shape: model.layers.0.mlp.down_proj.weight is [96, 64], must be [64, 96]; "
        "1 of an unsupported type: model.layers.1.mlp.up_proj.weight is int8."
    )


def test_long_list_of_names_is_cut(checkpoint: Path) -> None:
    rewrite(checkpoint, {f"extra.{index:02}": torch.zeros(1) for index in range(25)})
    with pytest.raises(ModelError, match=r"25 not part of the model: extra\.00, .*, extra\.19 and 5 more\.$"):
        load_float32(checkpoint)


def test_rotary_frequencies_of_old_checkpoints_are_ignored(checkpoint: Path) -> None:
    expected = last_logits(checkpoint)
    rewrite(checkpoint, {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)})
    assert torch.equal(last_logits(checkpoint), expected)


def test_head_in_the_checkpoint_is_ignored_when_the_config_ties_it(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "llama", tie_word_embeddings=True)
    expected = last_logits(tmp_path)
    rewrite(tmp_path, {"lm_head.weight": torch.zeros(320, 64)})
    assert torch.equal(last_logits(tmp_path), expected)


def test_shards_give_the_same_model_as_one_file(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "one", "qwen2")
    make_checkpoint(tmp_path / "many", "qwen2", max_shard_size="100KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 2
    assert torch.equal(last_logits(tmp_path / "many"), last_logits(tmp_path / "one"))


def test_missing_shards_are_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "llama", max_shard_size="100KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    shards[0].unlink()
    shards[2].unlink()
    with pytest.raises(
        ModelError, match=f"2 of {len(shards)} weight files .* missing: {shards[0].name}, {shards[2].name}"
    ):
        load_float32(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "must be JSON with a 'weight_map'"),
        ("[]", "must be JSON with a 'weight_map'"),
        (json.dumps({"weight_map": {"a": "../secret.safetensors"}}), "may only name .safetensors files beside it"),
        (json.dumps({"weight_map": {"a": "pytorch_model.bin"}}), "may only name .safetensors files beside it"),
        (json.dumps({"weight_map": {"a": 1}}), "may only name .safetensors files beside it"),
    ],
)
def test_broken_index_is_one_clear_error(index: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=message):
        list(iterate_checkpoint(tmp_path))


@pytest.mark.parametrize("kept_bytes", [0, 4, 100, 20_000])
def test_truncated_file_is_one_clear_error(checkpoint: Path, kept_bytes: int) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(ModelError, match=r"model\.safetensors is broken or incomplete: .*Download or copy it again"):
        load_float32(checkpoint)


def test_garbage_is_one_clear_error(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 1000)
    with pytest.raises(ModelError, match="broken or incomplete"):
        load_float32(checkpoint)


def test_pickles_are_refused_with_the_way_to_convert_them(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only in pickle form \(pytorch_model\.bin\).*save_pretrained"):
        load_float32(checkpoint)


def test_directory_without_weights_says_what_it_holds(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has neither model\.safetensors nor .*it holds config\.json"):
        load_float32(checkpoint)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_converted_to_the_type_asked_for(checkpoint: Path, dtype: torch.dtype) -> None:
    model = load_model(checkpoint, ModelConfig.from_directory(checkpoint), LoadOptions(dtype=dtype, device=CPU))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    stored = load_file(checkpoint / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(model.embed_tokens.weight.weight, stored.to(dtype))


def dummy(directory: Path, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    config = ModelConfig.from_directory(directory)
    return load_model(
        directory / "nowhere", config, LoadOptions(dtype=dtype, device=CPU, load_format="dummy", seed=seed)
    ).state_dict()


def test_dummy_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen3")
    torch.manual_seed(1)
    first = dummy(tmp_path, seed=7)
    after_first = torch.rand(1)
    torch.manual_seed(2)
    second = dummy(tmp_path, seed=7)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["embed_tokens.weight.weight"], dummy(tmp_path, seed=8)["embed_tokens.weight.weight"])
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after_first)


def test_dummy_weights_are_small_noise_and_norms_are_one(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen3")
    for name, weight in dummy(tmp_path, seed=0, dtype=torch.bfloat16).items():
        if "norm" in name:
            assert torch.equal(weight, torch.ones_like(weight))
        else:
            assert 0.015 < weight.float().std() < 0.025, name


LOAD_AND_MEASURE = """
import sys
from pathlib import Path
import torch
from octavo.models.config import ModelConfig
from octavo.models.loading import LoadOptions, load_model

def kib(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

directory = Path(sys.argv[1])
config = ModelConfig.from_directory(directory)
before = kib("VmRSS")
model = load_model(directory, config, LoadOptions(dtype=getattr(torch, sys.argv[2]), device=torch.device("cpu")))
weights = sum(parameter.nbytes for parameter in model.parameters())
print((kib("VmHWM") - before) * 1024, weights)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_peak_memory_is_the_weights_and_one_tensor(dtype: str, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "llama", num_hidden_layers=12, hidden_size=512, intermediate_size=2048, vocab_size=4096)
    largest = 4 * 4096 * 512
    code = [sys.executable, "-c", LOAD_AND_MEASURE, str(tmp_path), dtype]
    peak, weights = map(int, subprocess.run(code, check=True, capture_output=True, text=True).stdout.split())
    assert weights > 8 * largest * (1 if dtype == "float32" else 0.5)
    assert peak <= weights + largest + 12 * 2**20  # what the interpreter itself still takes


@pytest.mark.skipif(
    Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "1", reason="this machine lends any amount of memory"
)
def test_file_that_is_larger_than_memory_is_one_clear_error(tmp_path: Path) -> None:
    num_bytes = 2**43
    header = json.dumps({"w": {"dtype": "U8", "shape": [num_bytes], "data_offsets": [0, num_bytes]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(file.tell() + num_bytes)  # a hole, which takes no room on the disk
    with pytest.raises(ModelError, match=r"\(8\.0 TiB\) cannot be mapped into memory.*use a checkpoint in more shards"):
        next(iterate_checkpoint(tmp_path))
