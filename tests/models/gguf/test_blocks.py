"""Models from GGUF files have the weights, and so the logits, of the checkpoints that they were made from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from torch import Tensor
from transformers import AutoConfig
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.gguf.blocks import iterate_stored
from octavo.models.loading import LoadOptions, load_model
from octavo.models.weights import iterate_checkpoint
from tests.checkpoints import load_oracle, make_checkpoint
from tests.gguf_files import Array, interleave_heads, make_gguf
from tests.models.paged_run import PagedRun, load_float32

TOKEN_IDS = torch.randint(0, 320, (40,), generator=torch.Generator().manual_seed(5)).tolist()
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": ("llama", {"head_dim": 32}),
    "llama-llama3": ("llama", {"rope_parameters": LLAMA3}),
    "mistral-window": ("mistral", {"sliding_window": 7}),
    "qwen2": ("qwen2", {}),
    "qwen2-yarn": (
        "qwen2",
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}, "max_position_embeddings": 16},
    ),
    "qwen3": ("qwen3", {}),
}


@torch.no_grad()
def logits_of(path: Path) -> Tensor:
    return PagedRun(load_float32(path), [TOKEN_IDS], [len(TOKEN_IDS)]).step([(0, len(TOKEN_IDS))])[0]


def extras(checkpoint: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """What llama.cpp's converter writes for llama3's scaling, and what a file says of a sliding window."""
    if "sliding_window" in overrides:
        return {"settings": {"llama.attention.sliding_window": overrides["sliding_window"]}}
    if overrides.get("rope_parameters") is LLAMA3:
        config = AutoConfig.from_pretrained(checkpoint)
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        plain = 10000.0 ** -(torch.arange(0, config.head_dim, 2) / config.head_dim)
        return {"extra_tensors": {"rope_freqs.weight": (plain / scaled).numpy().astype(np.float32)}}
    return {}


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_logits_are_those_of_transformers(variant: str, tmp_path: Path) -> None:
    family, overrides = VARIANTS[variant]
    checkpoint = make_checkpoint(tmp_path / "checkpoint", family, **overrides)
    path = make_gguf(tmp_path / "model.gguf", checkpoint, tokenizer=False, **extras(checkpoint, overrides))
    expected = load_oracle(checkpoint)(torch.tensor([TOKEN_IDS])).logits[0]
    torch.testing.assert_close(logits_of(path), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_heads", [1, 4])
@pytest.mark.parametrize("shape", [(64, 32), (64,)], ids=str)
def test_test_files_order_heads_as_transformers_expects_it_of_gguf_files(num_heads: int, shape: tuple[int]) -> None:
    values: Array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    reverse = LlamaTensorProcessor(config={})._reverse_permute_weights
    np.testing.assert_array_equal(reverse(interleave_heads(values, num_heads), num_heads, num_heads), values)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("llama"), "llama", tie_word_embeddings=True)


@pytest.mark.parametrize(("kind", "tolerance"), [("F32", 0.0), ("F16", 1e-3), ("BF16", 4e-3), ("Q8_0", 8e-3)])
def test_stored_tensors_are_near_the_checkpoints_under_its_names(
    kind: str, tolerance: float, tmp_path: Path, llama: Path
) -> None:
    path = make_gguf(tmp_path / "model.gguf", llama, tokenizer=False, kind=GGMLQuantizationType[kind])
    expected = dict(iterate_checkpoint(llama))
    stored = {tensor.name: tensor for tensor in iterate_stored(path, ModelConfig.from_directory(path))}
    assert stored.keys() == expected.keys()
    for name, tensor in stored.items():
        assert tensor.type.name == (kind if len(tensor.shape) > 1 else "F32")
        assert tensor.rows.dtype == torch.uint8
        largest = expected[name].abs().max().item()
        torch.testing.assert_close(tensor.numbers(torch.float32), expected[name], rtol=0, atol=tolerance * largest)


def test_tensors_that_the_model_lacks_are_named(tmp_path: Path, llama: Path) -> None:
    extra = {"blk.0.attn_qkv.weight": np.ones((2, 2), dtype=np.float32)}
    path = make_gguf(tmp_path / "model.gguf", llama, tokenizer=False, extra_tensors=extra)
    with pytest.raises(ModelError, match=r"1 not part of the model: blk\.0\.attn_qkv\.weight"):
        load_float32(path)


def test_heads_that_do_not_fit_are_told_as_wrong_shapes(tmp_path: Path, llama: Path) -> None:
    path = make_gguf(
        tmp_path / "model.gguf",
        llama,
        tokenizer=False,
        settings={"llama.attention.key_length": 10}
        | {"llama.attention.value_length": 10, "llama.rope.dimension_count": 10},
    )
    with pytest.raises(ModelError, match=r"of a wrong shape: .*q_proj"):
        load_float32(path)


def test_dummy_weights_need_no_tensors_of_the_right_shape(tmp_path: Path, llama: Path) -> None:
    path = make_gguf(tmp_path / "model.gguf", llama, tokenizer=False, settings={"llama.feed_forward_length": 32})
    model = load_model(
        path,
        ModelConfig.from_directory(path),
        LoadOptions(dtype=torch.float32, device=torch.device("cpu"), load_format="dummy"),
    )
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_configuration_and_headers_are_read_without_torch(tmp_path: Path, llama: Path) -> None:
    path = make_gguf(tmp_path / "model.gguf", llama, tokenizer=False)
    program = (
        "import sys; from pathlib import Path; from octavo.models.config import ModelConfig;"
        "ModelConfig.from_directory(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 0
