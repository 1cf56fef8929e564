"""What is read from config.json equals what transformers reads; what is wrong is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.registry import ARCHITECTURES, model_class
from octavo.models.rope_config import RopeConfig

BASE = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
}
FAMILIES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}


def write(directory: Path, architecture: str = "LlamaForCausalLM", **fields: Any) -> Path:
    values = {"architectures": [architecture], "model_type": FAMILIES.get(architecture, "other"), **BASE, **fields}
    (directory / "config.json").write_text(json.dumps(values))
    return directory


def read(directory: Path, architecture: str = "LlamaForCausalLM", **fields: Any) -> ModelConfig:
    return ModelConfig.from_directory(write(directory, architecture, **fields))


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True},
        {"head_dim": None, "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "attention_bias": True, "mlp_bias": True},
        {"sliding_window": 100, "eos_token_id": [5, 6], "bos_token_id": 7, "dtype": "bfloat16"},
        {"sliding_window": None, "eos_token_id": None, "bos_token_id": None, "torch_dtype": "float16"},
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 3, "rope_theta": 5e5},
        {"use_sliding_window": True, "sliding_window": 9, "layer_types": ["full_attention", "sliding_attention"] * 2},
        {"use_sliding_window": False, "sliding_window": 9, "max_window_layers": 1},
    ],
    ids=lambda fields: ",".join(fields) or "defaults",
)
def test_fields_and_their_defaults_are_those_of_transformers(
    architecture: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields = {"num_key_value_heads": 4} | fields
    if architecture == "Qwen3ForCausalLM" and fields.get("head_dim", 0) is None:
        fields["head_dim"] = 16  # transformers takes no null here
    ours, theirs = read(tmp_path, architecture, **fields), AutoConfig.from_pretrained(tmp_path)
    for name in (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "rms_norm_eps", "hidden_act", "tie_word_embeddings", "max_position_embeddings"),
        "bos_token_id",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.head_dim == (getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads)
    eos = theirs.eos_token_id
    assert list(ours.eos_token_ids) == (eos if isinstance(eos, list) else [] if eos is None else [eos])
    assert ours.rope.theta == theirs.rope_parameters["rope_theta"]
    assert ours.dtype == str(theirs.dtype or "float32").removeprefix("torch.")
    # transformers' Llama has no windows, whatever else the file says; its Mistral with layer_types is "ministral".
    window = None if architecture == "LlamaForCausalLM" else theirs.sliding_window
    layer_types = getattr(theirs, "layer_types", ["sliding_attention"] * theirs.num_hidden_layers)
    assert list(ours.layer_windows) == [window if kind == "sliding_attention" else None for kind in layer_types]


def test_biases_are_what_each_family_means_by_them(tmp_path: Path) -> None:
    fields = {"attention_bias": True, "mlp_bias": True}
    biases = {}
    for architecture in FAMILIES:
        config = read(tmp_path, architecture, **fields)
        biases[FAMILIES[architecture]] = (config.attention_bias, config.mlp_bias)
    assert biases == {"llama": (True, True), "mistral": (False, False), "qwen2": (True, False), "qwen3": (True, False)}
    assert read(tmp_path, "Qwen2ForCausalLM").attention_bias


def test_missing_number_of_key_value_heads_means_one_for_each_head(tmp_path: Path) -> None:
    assert read(tmp_path).num_key_value_heads == 4


YARN = {"factor": 4.0, "original_max_position_embeddings": 1024}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}


@pytest.mark.parametrize(
    ("scaling", "expected", "max_model_len"),
    [
        ({"type": "linear", "factor": 2}, RopeConfig("linear", 7.0, 2.0, 4096), 8192),
        ({"rope_type": "dynamic", "factor": 1.5}, RopeConfig("dynamic", 7.0, 1.5, 4096), 6144),
        ({"rope_type": "llama3", **LLAMA3}, RopeConfig("llama3", 7.0, 8.0, 512, 1.0, 4.0), 4096),
        ({"type": "yarn", **YARN}, RopeConfig("yarn", 7.0, 4.0, 1024), 4096),
        ({"type": "yarn", "factor": 4.0}, RopeConfig("yarn", 7.0, 4.0, 4096), 16384),
        ({"type": "yarn", "factor": None, "original_max_position_embeddings": 1024}, None, 4096),
        ({"rope_type": "default"}, RopeConfig("default", 7.0, 1.0, 4096), 4096),
        (
            {"rope_type": "yarn", **YARN, "mscale": 1, "mscale_all_dim": 0.5, "truncate": False, "beta_fast": 16},
            RopeConfig("yarn", 7.0, 4.0, 1024, beta_fast=16.0, mscale=1.0, mscale_all_dim=0.5, truncate=False),
            4096,
        ),
    ],
)
def test_old_and_new_form_of_rotary_scaling_read_the_same(
    scaling: dict[str, Any], expected: RopeConfig | None, max_model_len: int, tmp_path: Path
) -> None:
    old = read(tmp_path, rope_scaling=scaling, rope_theta=7.0)
    new = read(tmp_path, rope_parameters={**scaling, "rope_theta": 7.0})
    assert old.rope == new.rope == (expected or RopeConfig("yarn", 7.0, 4.0, 1024))
    assert old.default_max_model_len == max_model_len


def test_original_length_beside_the_scaling_wins_over_the_one_inside(tmp_path: Path) -> None:
    config = read(tmp_path, rope_scaling={"type": "yarn", **YARN}, original_max_position_embeddings=2048)
    assert config.rope.original_max_position_embeddings == 2048


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": None}, r"field 'vocab_size' is missing; it must be an integer of at least 1"),
        ({"hidden_size": "big"}, r"field 'hidden_size' is 'big'; it must be an integer of at least 1"),
        ({"num_hidden_layers": 0}, r"field 'num_hidden_layers' is 0"),
        ({"num_hidden_layers": True}, r"field 'num_hidden_layers' is True"),
        ({"intermediate_size": 1.5}, r"field 'intermediate_size' is 1.5"),
        ({"num_key_value_heads": 3}, r"'num_key_value_heads' is 3; it must be a divisor of num_attention_heads \(4\)"),
        ({"hidden_size": 66}, r"field 'hidden_size' is 66; it must be a multiple of num_attention_heads \(4\)"),
        ({"head_dim": 7}, r"heads have 7 dimensions; rotary embedding needs an even number"),
        ({"hidden_act": "gelu"}, r"field 'hidden_act' is 'gelu'; it must be one of silu, swish"),
        ({"hidden_act": 5}, r"field 'hidden_act' is 5"),
        ({"tie_word_embeddings": "yes"}, r"field 'tie_word_embeddings' is 'yes'; it must be true or false"),
        ({"rms_norm_eps": -1}, r"field 'rms_norm_eps' is -1; it must be a number of at least 0"),
        ({"rms_norm_eps": float("nan")}, r"field 'rms_norm_eps' is nan"),
        ({"dtype": "float8_e4m3fn"}, r"'dtype' is 'float8_e4m3fn'; it must be one of float32, bfloat16, float16"),
        ({"eos_token_id": ["a"]}, r"field 'eos_token_id' is \['a'\]; it must be a token id or a list of token ids"),
        ({"partial_rotary_factor": 0.5}, r"field 'partial_rotary_factor' is 0.5"),
        ({"rope_theta": 0}, r"field 'rope_theta' is 0; it must be a number above 1"),
        ({"rope_scaling": "linear"}, r"field 'rope_scaling' is 'linear'; it must be an object"),
        (
            {"rope_scaling": {"type": "ntk"}},
            r"rope_scaling: field 'type' is 'ntk'; it must be one of default, linear, dynamic, llama3, yarn, longrope",
        ),
        ({"rope_scaling": {"type": "linear"}}, r"rope_scaling: field 'factor' is missing"),
        ({"rope_scaling": {"type": "dynamic", "factor": 0.5}}, r"field 'factor' is 0.5; .* at least 1"),
        ({"rope_scaling": {"type": "llama3", **LLAMA3, "low_freq_factor": 0}}, r"'low_freq_factor' is 0"),
        ({"rope_scaling": {"type": "llama3", **LLAMA3, "high_freq_factor": 1}}, r"more than low_freq_factor \(1\)"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, r"differ between layers \(full_attention\)"),
        ({"architectures": None}, r"field 'architectures' is missing"),
        ({"architectures": ["LamaForCausalLM"]}, r"'LamaForCausalLM' is not supported.*nearest is LlamaForCausalLM"),
    ],
)
def test_wrong_value_is_named_with_what_is_supported(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        read(tmp_path, **fields)


def test_wrong_layer_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'layer_types' is .* a list of 4 entries of full_attention"):
        read(tmp_path, "Qwen3ForCausalLM", use_sliding_window=True, layer_types=["full_attention"])


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), ("{", "cannot be read as JSON"), ("[]", "JSON object, not a list")],
)
def test_broken_config_file_is_one_clear_error(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        ModelConfig.from_directory(tmp_path)


def test_every_architecture_has_a_reader_and_a_class(tmp_path: Path) -> None:
    for architecture in ARCHITECTURES:
        config = read(tmp_path, architecture, num_key_value_heads=2, n_group=1, topk_group=1)
        assert config.architecture == architecture
        assert model_class(architecture).__name__ == architecture


def test_unknown_architecture_is_refused_with_the_list() -> None:
    with pytest.raises(
        ModelError, match=r"'GPT2LMHeadModel' is not supported. Supported are Deepseek.*LlamaForCausalLM, Mis"
    ):
        model_class("GPT2LMHeadModel")


def test_configuration_hub_and_registry_need_no_torch() -> None:
    modules = "octavo.models.config, octavo.models.hub, octavo.models.registry, octavo.models.forward_context"
    code = f"import sys, {modules}, octavo.plan.memory; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("Gemma2ForCausalLM", {"hidden_activation": "gelu"}, r"'hidden_activation' is 'gelu'; .* gelu_pytorch_tanh"),
        ("Gemma2ForCausalLM", {"attn_logit_softcapping": 0}, r"'attn_logit_softcapping' is 0"),
        (
            "Gemma3ForCausalLM",
            {"use_bidirectional_attention": True},
            r"'use_bidirectional_attention' is True; .* false",
        ),
        ("Gemma3ForCausalLM", {"rope_parameters": {"rope_theta": 5.0}}, r"'rope_theta' is 5.0; .* inside one of"),
        ("Phi3ForCausalLM", {"rope_scaling": {"type": "linear", "factor": 2}}, r"is longrope, not linear"),
        ("Phi3ForCausalLM", {"partial_rotary_factor": 0.05}, r"'partial_rotary_factor' is 0.05; .* 16 dimensions"),
        (
            "Phi3ForCausalLM",
            {"rope_scaling": {"type": "su", "short_factor": [1.0] * 8, "long_factor": [1.0]}},
            r"'long_factor' is \[1.0\]; it must be a list of 8 numbers above 0",
        ),
        ("Qwen3MoeForCausalLM", {"mlp_only_layers": 3}, r"'mlp_only_layers' is 3; it must be a list of integers"),
        ("MixtralForCausalLM", {"num_experts_per_tok": 9}, r"'num_experts_per_tok' is 9; .* number of experts \(8\)"),
        ("GptOssForCausalLM", {"swiglu_limit": 5.0}, r"'swiglu_limit' is 5.0; it must be 7.0: nothing else"),
        ("GptOssForCausalLM", {"quantization_config": {"quant_method": "mxfp4"}}, r"mxfp4"),
        ("DeepseekV2ForCausalLM", {"scoring_func": "sigmoid"}, r"'scoring_func' is 'sigmoid'; it must be .softmax"),
        ("DeepseekV3ForCausalLM", {"n_group": 3, "topk_group": 2}, r"'n_group' is 3; .* divisor of n_routed_experts"),
        ("DeepseekV3ForCausalLM", {"n_group": 4, "topk_group": 5}, r"'topk_group' is 5; .* at most n_group \(4\)"),
    ],
)
def test_what_a_family_does_not_support_is_refused(
    architecture: str, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        read(tmp_path, architecture, **({"num_key_value_heads": 2} | fields))
