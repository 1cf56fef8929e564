"""Models read from their config.json: parameters against transformers and against what publishers state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, logging

from octavo.errors import ModelError
from octavo.plan.families import read_model_shape, supported_families
from tests.plan import published_models as published

logging.set_verbosity_error()

# Odd on purpose: no two sizes are equal, so that no wrong factor goes unnoticed.
SMALL: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "ffn_dim": 72,
    "moe_intermediate_size": 24,
    "num_experts": 6,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "n_routed_experts": 6,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "shared_expert_intermediate_size": 40,
    "intermediate_size_mlp": 56,
    "interleave_moe_layer_step": 2,
    "q_lora_rank": 14,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# What changes which matrices there are.
SWITCHES = (
    *("attention_bias", "mlp_bias", "tie_word_embeddings", "use_qk_norm", "use_qkv_bias", "use_bias", "bias"),
    *("enable_bias", "qk_layernorm", "use_parallel_residual", "parallel_attn", "multi_query", "lm_head_bias"),
    *("new_decoder_architecture", "do_layer_norm_before", "attention_out_bias", "qkv_bias"),
)
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "moe_intermediate_size")
# A family of the hub that transformers runs with the class of another.
SAME_AS = {"kimi_k2": "deepseek_v3"}
# The bias of a tied OPT or Phi head, and such, are combinations that no checkpoint has.
_NEVER = {"phi": {"tie_word_embeddings"}, "phimoe": {"tie_word_embeddings"}}


def oracle(model_type: str, fields: dict[str, Any]) -> Any:
    """Build the model without memory for its weights."""
    config = AutoConfig.for_model(SAME_AS.get(model_type, model_type), **fields)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def fields_of(model_type: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return those of the values that the family knows."""
    known = {*AutoConfig.for_model(SAME_AS.get(model_type, model_type)).to_dict(), "num_experts"}
    known |= {"pad_token_id", "bos_token_id", "eos_token_id"}
    return {name: value for name, value in values.items() if name in known}


def num_parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("model_type", supported_families())
def test_parameters_are_those_of_transformers(model_type: str) -> None:
    fields = fields_of(model_type, SMALL)
    model = oracle(model_type, fields)
    shape = read_model_shape({"model_type": model_type, **fields})
    assert shape.num_parameters == num_parameters(model)
    assert shape.architecture == type(model).__name__
    # A config.json that transformers saved says the same as the few fields that were set.
    saved = {**model.config.to_dict(), "model_type": model_type}
    assert read_model_shape(saved).num_parameters == shape.num_parameters
    assert read_model_shape(saved).kv_elements_per_token == shape.kv_elements_per_token


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_parameters_are_those_of_transformers_whatever_is_switched(data: st.DataObject) -> None:
    model_type = data.draw(st.sampled_from(supported_families()))
    allowed = [name for name in SWITCHES if name not in _NEVER.get(model_type, set())]
    switches = {name: data.draw(st.booleans(), name) for name in allowed}
    sizes = {name: 32 * data.draw(st.integers(1, 4), name) for name in SIZES[:2]}
    sizes |= {name: data.draw(st.integers(2, 7), name) for name in SIZES[2:]}
    fields = fields_of(model_type, {**SMALL, **switches, **sizes})
    assert read_model_shape({"model_type": model_type, **fields}).num_parameters == num_parameters(
        oracle(model_type, fields)
    )


@pytest.mark.parametrize("name", published.NUM_PARAMETERS)
def test_parameters_are_those_that_are_published(name: str) -> None:
    config, expected = published.NUM_PARAMETERS[name]
    assert read_model_shape(config).num_parameters == expected


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        (published.QWEN3_30B_A3B, 3.3),  # https://huggingface.co/Qwen/Qwen3-30B-A3B: 3.3B activated
        (published.DEEPSEEK_V3, 37.0),  # arXiv:2412.19437: 37B activated, without the embedding of 0.93B
        (published.MIXTRAL_8X7B, 13.0),  # arXiv:2401.04088: 13B active
    ],
)
def test_active_parameters_are_those_that_are_published(config: dict[str, Any], billions: float) -> None:
    assert read_model_shape(config).num_active_parameters / 1e9 == pytest.approx(billions, rel=0.025)


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "gpt_oss", "cohere2", "olmo3", "exaone4", "qwen2"])
def test_windows_are_those_of_transformers(model_type: str) -> None:
    fields = {**SMALL, "num_hidden_layers": 13, "use_sliding_window": True, "max_window_layers": 4}
    fields = {**fields_of(model_type, fields), "sliding_window": 20}
    config = AutoConfig.for_model(model_type, **fields)
    expected = [20 if kind == "sliding_attention" else None for kind in config.layer_types]
    assert [layer.window for layer in read_model_shape({"model_type": model_type, **fields}).layers] == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Llama 3.1: 8 key heads of 128 dimensions in 32 and 80 layers: 64 Ki and 160 Ki numbers a token.
        (published.LLAMA_31_8B, 64 * 1024),
        (published.LLAMA_31_70B, 160 * 1024),
        # Multi-query: one key head of 64 dimensions in 32 layers.
        (published.FALCON_7B, 2 * 32 * 64),
        # DeepSeek-V3 (arXiv:2412.19437): 512 latent and 64 rotary dimensions in 61 layers, for all heads together.
        (published.DEEPSEEK_V3, 61 * (512 + 64)),
    ],
)
def test_numbers_in_the_cache_follow_the_kind_of_attention(config: dict[str, Any], expected: int) -> None:
    assert read_model_shape(config).kv_elements_per_token == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (published.LLAMA_31_8B, 131_072),
        (published.DEEPSEEK_V3, 163_840),
        (published.GPT_OSS_120B, 131_072),
        (published.GEMMA_3_4B, 131_072),
        ({**published.LLAMA_2_7B, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16_384),
    ],
)
def test_longest_sequence_includes_rotary_scaling(config: dict[str, Any], expected: int) -> None:
    assert read_model_shape(config).max_model_len == expected


def test_language_model_inside_a_multimodal_one_is_read_with_its_defaults() -> None:
    shape = read_model_shape(published.GEMMA_3_4B)
    assert (shape.model_type, shape.vocab_size, shape.dtype, shape.is_part) == (
        "gemma3_text",
        262_208,
        "bfloat16",
        True,
    )


def test_family_is_known_by_its_architecture_where_the_type_is_absent() -> None:
    config = {name: value for name, value in published.LLAMA_31_8B.items() if name != "model_type"}
    assert read_model_shape(config).num_parameters == 8_030_261_248


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "mamba2"}, "the model family 'mamba2' is not known to the planner. Known are apertus, "),
        ({"model_type": "llamma"}, "The nearest is llama."),
        ({"hidden_size": None}, "field 'hidden_size' is missing"),
        ({"hidden_size": "4096"}, "field 'hidden_size' is '4096'; it must be an integer of 1 or more"),
        ({"hidden_size": 4095}, "4095 is no multiple of 32 attention heads"),
        ({"num_hidden_layers": 0}, "field 'num_hidden_layers' is 0"),
        ({"tie_word_embeddings": "no"}, "field 'tie_word_embeddings' is 'no'; it must be true or false"),
        ({"torch_dtype": "float8_e4m3fn"}, "the weights are 'float8_e4m3fn'"),
        ({"rope_scaling": 8}, "field 'rope_scaling' is 8; it must be an object"),
        ({"model_type": "qwen3", "use_sliding_window": True, "layer_types": ["odd"]}, "field 'layer_types'"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": [1.5]}, "it must be a list of integers"),
    ],
)
def test_what_is_wrong_in_a_config_is_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError) as error:
        read_model_shape({**published.LLAMA_31_8B, **change}, "some/config.json")
    assert reason in str(error.value)
    assert str(error.value).startswith("some/config.json")
