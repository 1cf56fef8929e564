"""A quantised engine gives the tokens of transformers with the same weights, and says what it cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from octavo import LLM, SamplingParams
from octavo.config import EngineConfig
from octavo.engine.builder import build_engine
from octavo.errors import ConfigError, ModelError
from octavo.models.config import ModelConfig
from octavo.models.layers.decoder import CausalLM
from octavo.models.loading import LoadOptions, load_model
from octavo.models.quantization.choice import choose_formats
from tests.checkpoints import load_oracle, make_checkpoint
from tests.models.paged_run import PagedRun
from tests.models.quantization.packed_checkpoints import make_packed_checkpoint

PROMPTS = [[5 * index % 300 + 1 for index in range(length)] for length in (1, 2, 17, 40)]
NUM_TOKENS = 32
CPU = torch.device("cpu")

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
PACKED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gptq": ("llama", GPTQ | {"sym": True}, {"attention_bias": True, "mlp_bias": True}),
    "gptq-act-order": ("qwen2", GPTQ | {"desc_act": True}, {}),
    "gptq-v2-8-bits": ("qwen3", GPTQ | {"bits": 8, "group_size": -1, "checkpoint_format": "gptq_v2"}, {}),
    "gptq-head": ("mistral", GPTQ | {"lm_head": True, "desc_act": True}, {}),
    "awq": ("qwen2", {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}, {}),
    "awq-tied": (
        "qwen3",
        {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True},
        {"tie_word_embeddings": True},
    ),
}


def generate(model: Path, **settings: Any) -> list[list[int]]:
    llm = LLM(str(model), kv_cache_memory_bytes=2**24, max_model_len=128, **settings)
    params = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
    outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in PROMPTS], params, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


@torch.no_grad()
def generate_with(oracle: Any) -> list[list[int]]:
    oracle.generation_config.eos_token_id = None
    answers = []
    for prompt in PROMPTS:
        mask = torch.ones(1, len(prompt), dtype=torch.long)
        output = oracle.generate(
            torch.tensor([prompt]), attention_mask=mask, max_new_tokens=NUM_TOKENS, do_sample=False
        )
        answers.append(output[0, len(prompt) :].tolist())
    return answers


class RoundedTokensLinear(nn.Module):
    """A layer as the int8 format defines it: the tokens are rounded to int8, too."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        step = x.abs().amax(-1, keepdim=True) / 127
        return nn.functional.linear((x / step).round() * step, self.weight, self.bias)


def quantised_oracle(directory: Path, model: CausalLM) -> Any:
    """Return transformers' model with the weights of ``model``, dequantised; int8 layers round their tokens."""
    oracle: Any = load_oracle(directory)
    for ours, theirs in zip(model.layers, oracle.model.layers, strict=True):
        attention, mlp = theirs.self_attn, theirs.mlp
        for merged, parts in (
            (ours.self_attn.qkv_proj, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (ours.self_attn.o_proj, (attention.o_proj,)),
            (ours.mlp.gate_up_proj, (mlp.gate_proj, mlp.up_proj)),
            (ours.mlp.down_proj, (mlp.down_proj,)),
        ):
            (weight,) = merged.weights
            for part, rows in zip(parts, weight.dequantize().split(merged.output_sizes), strict=True):
                part.weight.data = rows
    if model.config.tie_word_embeddings:
        oracle.model.embed_tokens.weight.data = model.lm_head.weight.dequantize()
    oracle.lm_head = RoundedTokensLinear(model.lm_head.weight.dequantize(), None)
    return oracle


def load(directory: Path, method: str) -> CausalLM:
    config = ModelConfig.from_directory(directory)
    return load_model(
        directory, config, LoadOptions(dtype=torch.float32, device=CPU), formats=choose_formats(method, None)
    )


@pytest.mark.usefixtures("without_native_kernels")  # which round the tokens to int8
@pytest.mark.parametrize("variant", PACKED)
def test_packed_checkpoint_gives_the_tokens_of_transformers(variant: str, tmp_path: Path) -> None:
    family, quantization, overrides = PACKED[variant]
    make_packed_checkpoint(tmp_path / "packed", tmp_path / "dense", family, quantization, **overrides)
    expected = generate_with(load_oracle(tmp_path / "dense"))
    assert generate(tmp_path / "packed") == expected
    assert generate(tmp_path / "packed", quantization=quantization["quant_method"]) == expected


@pytest.mark.usefixtures("without_native_kernels")
@pytest.mark.parametrize(
    ("family", "overrides"),
    [("llama", {"attention_bias": True, "mlp_bias": True}), ("qwen3", {"tie_word_embeddings": True})],
)
def test_int4_gives_the_tokens_of_transformers_with_dequantised_weights(
    family: str, overrides: dict[str, Any], tmp_path: Path
) -> None:
    make_checkpoint(tmp_path, family, tokenizer=True, **overrides)
    oracle = quantised_oracle(tmp_path, load(tmp_path, "int4"))
    assert generate(tmp_path, quantization="int4") == generate_with(oracle)


@pytest.mark.parametrize("family", ["qwen2", "mistral"])
@torch.no_grad()
def test_int8_gives_the_logits_of_transformers_with_rounded_weights_and_tokens(family: str, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, family)
    model = load(tmp_path, "int8")
    oracle = quantised_oracle(tmp_path, model)
    for layer in oracle.model.layers:
        for block in (layer.self_attn, layer.mlp):
            for name, part in list(block.named_children()):
                if isinstance(part, nn.Linear):
                    setattr(block, name, RoundedTokensLinear(part.weight, part.bias))
    prompt = PROMPTS[-1]
    (logits,) = PagedRun(model, [prompt], [len(prompt)]).step([(0, len(prompt))])
    expected = oracle(torch.tensor([prompt])).logits[0]
    # A number half-way between two integers may be rounded either way, here and there.
    assert ((logits - expected).norm() / expected.norm()).item() < 2e-3
    plain = load_oracle(tmp_path)(torch.tensor([prompt])).logits[0]
    assert 2e-3 < ((logits - plain).norm() / plain.norm()).item() < 0.1


@pytest.mark.parametrize(
    ("method", "bound"), [(None, 1e-5), ("int8", 0.02), ("int4", 0.1)]
)  # int8: ties are rounded up here and down there, which later layers enlarge; int4: torch does not round the tokens
@torch.no_grad()
def test_native_weights_give_the_logits_of_torchs(method: str | None, bound: float, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen2", tie_word_embeddings=True)
    config, prompt = ModelConfig.from_directory(tmp_path), PROMPTS[-1]
    formats = choose_formats(method, None)
    torchs, natives = (
        load_model(tmp_path, config, LoadOptions(dtype=torch.float32, device=CPU, native=native), formats=formats)
        for native in (False, True)
    )
    (expected,), (logits,) = (
        PagedRun(model, [prompt], [len(prompt)]).step([(0, len(prompt))]) for model in (torchs, natives)
    )
    assert ((logits - expected).norm() / expected.norm()).item() < bound


@pytest.mark.parametrize("variant", PACKED)
@torch.no_grad()
def test_native_weights_of_packed_checkpoints_stand_for_the_same_matrices(variant: str, tmp_path: Path) -> None:
    family, quantization, overrides = PACKED[variant]
    make_packed_checkpoint(tmp_path / "packed", tmp_path / "dense", family, quantization, **overrides)
    config = ModelConfig.from_directory(tmp_path / "packed")
    formats = choose_formats(None, config.quantization)
    torchs, natives = (
        load_model(
            tmp_path / "packed", config, LoadOptions(dtype=torch.float32, device=CPU, native=native), formats=formats
        )
        for native in (False, True)
    )
    for ours, theirs in zip(natives.layers, torchs.layers, strict=True):
        for name in ("qkv_proj", "o_proj"):
            pairs = zip(getattr(ours.self_attn, name).weights, getattr(theirs.self_attn, name).weights, strict=True)
            assert all(torch.equal(a.dequantize(), b.dequantize()) for a, b in pairs)


def test_engine_reports_what_it_runs_with(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "llama")
    for setting in (None, "int8", "int4"):
        config = EngineConfig(model=str(tmp_path), quantization=setting, kv_cache_memory_bytes=2**24)
        assert build_engine(config, tmp_path, ModelConfig.from_directory(tmp_path), 64).ready.quantization == setting


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("awq", "quantization=awq was asked for, but the checkpoint is already quantized with gptq"),
        ("int8", "quantization=int8 was asked for, but the checkpoint is already quantized with gptq"),
    ],
)
def test_setting_that_contradicts_the_checkpoint_is_refused(setting: str, message: str, tmp_path: Path) -> None:
    make_packed_checkpoint(tmp_path / "packed", tmp_path / "dense", "llama", GPTQ)
    with pytest.raises(ConfigError, match=message):
        generate(tmp_path / "packed", quantization=setting)
    with pytest.raises(ConfigError, match="quantization=gptq was asked for, but the checkpoint is not quantized"):
        generate(tmp_path / "dense", quantization="gptq")


def test_model_that_int4_cannot_hold_is_refused_before_it_is_read(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "llama", tokenizer=True, intermediate_size=80)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"one with 80 inputs\. Use --quantization int8"):
        generate(tmp_path, quantization="int4")
