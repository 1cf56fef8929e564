"""DeepSeek-V2 and V3."""

from __future__ import annotations

from dataclasses import replace

from octavo.models.config import ModelConfig
from octavo.models.config_fields import ConfigFields
from octavo.models.config_readers.decoder import read_decoder
from octavo.models.config_readers.mixtures import read_counts
from octavo.models.latent_attention_config import LatentAttentionConfig
from octavo.models.mixture_config import MixtureConfig, Scoring
from octavo.models.rope_config import RopeConfig, magnitude, read_rope

_V2 = {"n_routed_experts": 64, "n_shared_experts": 2, "moe_intermediate_size": 1407, "max_position_embeddings": 2048}
_V3 = {"n_routed_experts": 256, "n_shared_experts": 1, "moe_intermediate_size": 2048, "max_position_embeddings": 4096}


def read_deepseek_v2(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Weights are a softmax; experts may be chosen within a few groups."""
    fields = fields.with_defaults(_V2)
    method = fields.choice("topk_method", {name: name for name in ("greedy", "group_limited_greedy")}, default="greedy")
    fields.require("scoring_func", "softmax")
    fields.require("norm_topk_prob", False)
    config = read_decoder(fields, architecture, rope=_rope(fields), default_bos=(1,), default_eos=(2,))
    return replace(
        _deepseek(fields, config, interleaved=True),
        mlp_bias=fields.boolean("mlp_bias", False),
        mixture=_mixture(
            fields,
            config.num_hidden_layers,
            num_dense=fields.integer("first_k_dense_replace", 0, minimum=0),
            scoring="softmax",
            normalizes=False,
            scaling_factor=fields.number("routed_scaling_factor", 1.0),
            groups=_groups(fields) if method == "group_limited_greedy" else (1, 1),
        ),
    )


def read_deepseek_v3(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Weights are sigmoids; a bias of each expert and the sums of groups decide the choice."""
    fields = fields.with_defaults(_V3)
    fields.require("topk_method", "noaux_tc")
    fields.require("scoring_func", "sigmoid")
    config = read_decoder(fields, architecture, rope=_rope(fields), default_bos=(0,), default_eos=(1,))
    return replace(
        _deepseek(fields, config, interleaved=fields.boolean("rope_interleave", True)),
        mixture=_mixture(
            fields,
            config.num_hidden_layers,
            num_dense=fields.integer("first_k_dense_replace", 3, minimum=0),
            scoring="sigmoid",
            normalizes=fields.boolean("norm_topk_prob", True),
            scaling_factor=fields.number("routed_scaling_factor", 2.5),
            groups=_groups(fields.with_defaults({"n_group": 8, "topk_group": 4})),
        ),
    )


def _rope(fields: ConfigFields) -> RopeConfig:
    rotated_size = fields.integer("qk_rope_head_dim", 64)
    if rotated_size % 2:
        raise fields.error("qk_rope_head_dim", "an even number")
    rope = read_rope(fields, fields.integer("max_position_embeddings"), rotated_size)
    return replace(rope, rotary_dim=rotated_size)


def _deepseek(fields: ConfigFields, config: ModelConfig, *, interleaved: bool) -> ModelConfig:
    latent = LatentAttentionConfig(
        query_rank=fields.optional_integer("q_lora_rank", absent=1536),
        latent_size=fields.integer("kv_lora_rank", 512),
        rotated_size=fields.integer("qk_rope_head_dim", 64),
        unrotated_size=fields.integer("qk_nope_head_dim", 128),
        value_size=fields.integer("v_head_dim", 128),
        rope_is_interleaved=interleaved,
    )
    scale = (latent.unrotated_size + latent.rotated_size) ** -0.5
    if config.rope.rope_type == "yarn" and config.rope.mscale_all_dim:
        scale *= magnitude(config.rope.factor, config.rope.mscale_all_dim) ** 2
    return replace(
        config,
        num_key_value_heads=1,
        head_dim=latent.latent_size + latent.rotated_size,
        query_scale=scale,
        attention_bias=fields.boolean("attention_bias", False),
        latent_attention=latent,
    )


def _mixture(
    fields: ConfigFields,
    num_layers: int,
    *,
    num_dense: int,
    scoring: Scoring,
    normalizes: bool,
    scaling_factor: float,
    groups: tuple[int, int],
) -> MixtureConfig:
    fields.require("moe_layer_freq", 1)
    expert_size = fields.integer("moe_intermediate_size")
    return MixtureConfig(
        layers=tuple(layer >= num_dense for layer in range(num_layers)),
        expert_size=expert_size,
        shared_size=expert_size * fields.integer("n_shared_experts", minimum=0),
        scoring=scoring,
        normalizes=normalizes,
        scaling_factor=scaling_factor,
        num_groups=groups[0],
        num_groups_per_tok=groups[1],
        has_choice_bias=scoring == "sigmoid",
        **read_counts(fields, "n_routed_experts", num_experts=1, num_experts_per_tok=8),
    )


def _groups(fields: ConfigFields) -> tuple[int, int]:
    num_groups, per_token = fields.integer("n_group"), fields.integer("topk_group")
    if fields.integer("n_routed_experts") % num_groups:
        raise fields.error("n_group", "a divisor of n_routed_experts")
    if per_token > num_groups:
        raise fields.error("topk_group", f"at most n_group ({num_groups})")
    return num_groups, per_token
