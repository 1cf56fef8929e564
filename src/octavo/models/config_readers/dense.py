"""Families with one MLP a layer: Llama and those that differ from it in a few fields."""

from __future__ import annotations

from dataclasses import replace

from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.config_fields import ConfigFields
from octavo.models.config_readers.decoder import read_decoder, windows_by_type


def read_llama(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Biases are optional everywhere."""
    return replace(
        read_decoder(fields, architecture, default_bos=(1,), default_eos=(2,)),
        attention_bias=fields.boolean("attention_bias", False),
        mlp_bias=fields.boolean("mlp_bias", False),
    )


def read_mistral(fields: ConfigFields, architecture: str) -> ModelConfig:
    """One sliding window for all layers, or for those that layer_types names: 4096 if the field is absent."""
    config = read_decoder(fields, architecture, default_bos=(1,), default_eos=(2,))
    window = fields.optional_integer("sliding_window", absent=4096)
    windows = windows_by_type(fields, window, config.num_hidden_layers) or (window,) * config.num_hidden_layers
    return replace(config, layer_windows=windows)


def read_qwen2(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Query, key and value always have a bias; the upper layers may have a sliding window."""
    config = read_decoder(fields, architecture)
    return replace(config, attention_bias=True, layer_windows=qwen_windows(fields, config.num_hidden_layers))


def read_qwen3(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Heads of 128 dimensions unless the field says otherwise; biases are optional; windows as in Qwen2."""
    config = read_decoder(fields, architecture, default_head_dim=128)
    return replace(
        config,
        attention_bias=fields.boolean("attention_bias", False),
        layer_windows=qwen_windows(fields, config.num_hidden_layers),
    )


def qwen_windows(fields: ConfigFields, num_hidden_layers: int) -> tuple[int | None, ...]:
    if not fields.boolean("use_sliding_window", False):
        return (None,) * num_hidden_layers
    window = fields.optional_integer("sliding_window", absent=4096)
    first = fields.integer("max_window_layers", 28, minimum=0)
    by_depth = tuple(window if layer >= first else None for layer in range(num_hidden_layers))
    return windows_by_type(fields, window, num_hidden_layers) or by_depth


def read_phi3(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Heads may be rotated in part; of the rotary scalings there is LongRoPE only."""
    fields = fields.with_defaults({"rms_norm_eps": 1e-5, "max_position_embeddings": 4096})
    config = read_decoder(fields, architecture, allows_partial_rotary=True, default_bos=(1,), default_eos=(32000,))
    if config.rope.rope_type not in ("default", "longrope"):
        raise ModelError(
            f"{fields.source}: the rotary scaling of this family is longrope, not {config.rope.rope_type}."
        )
    window = fields.optional_integer("sliding_window")
    return replace(config, layer_windows=(window,) * config.num_hidden_layers)
