"""Gemma 2 and 3."""

from __future__ import annotations

from dataclasses import replace

from octavo.models.config import ModelConfig
from octavo.models.config_fields import ConfigFields
from octavo.models.config_readers.decoder import read_decoder, windows_by_type
from octavo.models.rope_config import RopeConfig, read_rope_section

_DEFAULTS = {"head_dim": 256, "num_key_value_heads": 4, "tie_word_embeddings": True}
_GEMMA2 = {**_DEFAULTS, "max_position_embeddings": 8192}
_GEMMA3 = {**_DEFAULTS, "max_position_embeddings": 131072, "num_attention_heads": 8, "vocab_size": 262_208}
_LEAST_CAP = 1e-6
_LOCAL_THETA = 10_000.0
_GLOBAL_THETA = 1_000_000.0


def read_gemma2(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Every other layer has a window, the first one too; scores and logits are bounded."""
    fields = fields.with_defaults(_GEMMA2)
    config = read_decoder(fields, architecture, hidden_act=_activation(fields), default_bos=(2,), default_eos=(1,))
    return replace(
        _gemma(fields, config, windows_every=2),
        attention_soft_cap=fields.optional_number("attn_logit_softcapping", absent=50.0, minimum=_LEAST_CAP),
        logits_soft_cap=fields.optional_number("final_logit_softcapping", absent=30.0, minimum=_LEAST_CAP),
    )


def read_gemma3(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Five layers of six have a window, and a rotation of their own; scores and logits are bounded only on request."""
    fields = fields.with_defaults(_GEMMA3)
    rope, local_rope = _gemma3_ropes(fields)
    config = read_decoder(
        fields, architecture, rope=rope, hidden_act=_activation(fields), default_bos=(2,), default_eos=(1,)
    )
    fields.require("attn_logit_softcapping", None)
    return replace(
        _gemma(fields, config, windows_every=fields.integer("sliding_window_pattern", 6)),
        local_rope=local_rope,
        is_length_stretched=True,
        logits_soft_cap=fields.optional_number("final_logit_softcapping", minimum=_LEAST_CAP),
    )


def _activation(fields: ConfigFields) -> str:
    """Return what hidden_activation says; some files have a hidden_act beside it, which means nothing."""
    return fields.choice("hidden_activation", {"gelu_pytorch_tanh": "gelu_tanh"}, default="gelu_tanh")


def _gemma(fields: ConfigFields, config: ModelConfig, *, windows_every: int) -> ModelConfig:
    fields.require("use_bidirectional_attention", False)
    window = fields.optional_integer("sliding_window", absent=4096)
    by_depth = tuple(None if layer % windows_every == 0 else window for layer in range(1, config.num_hidden_layers + 1))
    return replace(
        config,
        attention_bias=fields.boolean("attention_bias", False),
        layer_windows=windows_by_type(fields, window, config.num_hidden_layers) or by_depth,
        query_scale=fields.number("query_pre_attn_scalar", 256, minimum=1e-6) ** -0.5,
        embedding_scale=config.hidden_size**0.5,
        norm_weight_offset=1.0,
    )


def _gemma3_ropes(fields: ConfigFields) -> tuple[RopeConfig, RopeConfig]:
    """Return the rotation of layers without and with a window.

    New files have a section for either kind of layer; old ones have ``rope_theta``, ``rope_scaling`` for the layers
    without a window, and ``rope_local_base_freq``.
    """
    head_dim, length = fields.integer("head_dim"), fields.integer("max_position_embeddings")
    empty = ConfigFields({}, fields.source)
    sections = fields.section("rope_parameters") or empty
    full = (fields.section("rope_scaling") or sections.section("full_attention") or empty).with_defaults(
        {"rope_theta": fields.number("rope_theta", _GLOBAL_THETA)}
    )
    sliding = (sections.section("sliding_attention") or empty).with_defaults(
        {"rope_theta": fields.number("rope_local_base_freq", _LOCAL_THETA)}
    )
    known = ("full_attention", "sliding_attention")
    unknown = [name for name in sections.names() if name not in known]
    if unknown:
        raise sections.error(unknown[0], f"inside one of {' and '.join(known)}")
    return (
        read_rope_section(fields, full, length, head_dim),
        read_rope_section(fields, sliding, length, head_dim),
    )
