"""Families with mixtures of experts."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

from octavo.models.config import ModelConfig
from octavo.models.config_fields import ConfigFields
from octavo.models.config_readers.decoder import read_decoder, windows_by_type
from octavo.models.mixture_config import MixtureConfig
from octavo.models.rope_config import RopeConfig, read_rope

_GPT_OSS = {"head_dim": 64, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5}
_GPT_OSS_ROPE = RopeConfig("yarn", 150_000.0, 32.0, 4096, truncate=False)


class ExpertCounts(TypedDict):
    """How many experts there are, and how many a token has."""

    num_experts: int
    num_experts_per_tok: int


def read_mixtral(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Experts in each layer; no window unless there is one in the file."""
    fields = fields.with_defaults({"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6})
    config = read_decoder(fields, architecture, default_bos=(1,), default_eos=(2,))
    window = fields.optional_integer("sliding_window")
    mixture = MixtureConfig(
        layers=(True,) * config.num_hidden_layers,
        expert_size=config.intermediate_size,
        **read_counts(fields, "num_local_experts", num_experts=8, num_experts_per_tok=2),
    )
    return replace(config, layer_windows=(window,) * config.num_hidden_layers, mixture=mixture)


def read_qwen3_moe(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Experts in every layer, or in every few; some layers may be named that have none."""
    config = read_decoder(fields, architecture)
    window = fields.optional_integer("sliding_window", absent=4096)
    window = window if fields.boolean("use_sliding_window", False) else None
    step = fields.integer("decoder_sparse_step", 1)
    dense = fields.integers("mlp_only_layers")
    num_layers = config.num_hidden_layers
    mixture = MixtureConfig(
        layers=tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(num_layers)),
        expert_size=fields.integer("moe_intermediate_size", 768),
        normalizes=fields.boolean("norm_topk_prob", False),
        **read_counts(
            fields,
            "num_local_experts" if "num_local_experts" in fields else "num_experts",
            num_experts=128,
            num_experts_per_tok=8,
        ),
    )
    return replace(
        config,
        attention_bias=fields.boolean("attention_bias", False),
        layer_windows=(window,) * num_layers,
        mixture=mixture,
    )


def read_gpt_oss(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Experts in each layer; every other layer has a window, the first one too."""
    fields = fields.with_defaults(_GPT_OSS)
    fields.require("swiglu_limit", 7.0)
    fields.require("swiglu_alpha", 1.702)
    has_rope = "rope_parameters" in fields or "rope_scaling" in fields
    length, head_dim = fields.integer("max_position_embeddings"), fields.integer("head_dim")
    rope_fields = fields.with_defaults({"rope_theta": _GPT_OSS_ROPE.theta})
    rope = read_rope(rope_fields, length, head_dim) if has_rope else _GPT_OSS_ROPE
    config = read_decoder(fields, architecture, rope=rope)
    window = fields.optional_integer("sliding_window", absent=128)
    by_depth = tuple(window if layer % 2 == 0 else None for layer in range(config.num_hidden_layers))
    mixture = MixtureConfig(
        layers=(True,) * config.num_hidden_layers,
        expert_size=config.intermediate_size,
        scoring="softmax_of_chosen",
        **read_counts(fields, "num_local_experts", num_experts=128, num_experts_per_tok=4),
    )
    return replace(
        config,
        attention_bias=fields.boolean("attention_bias", True),
        layer_windows=windows_by_type(fields, window, config.num_hidden_layers) or by_depth,
        mixture=mixture,
    )


def read_counts(fields: ConfigFields, name: str, *, num_experts: int, num_experts_per_tok: int) -> ExpertCounts:
    """Return how many experts there are, and how many a token has.

    Args:
        name: the field with the number of experts.
        num_experts, num_experts_per_tok: what absent fields mean.
    """
    count = fields.integer(name, num_experts)
    per_token = fields.integer("num_experts_per_tok", num_experts_per_tok)
    if per_token > count:
        raise fields.error("num_experts_per_tok", f"at most the number of experts ({count})")
    return {"num_experts": count, "num_experts_per_tok": per_token}
