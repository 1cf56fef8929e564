"""What the ``config.json`` of every family has in common, and what families share in part."""

from __future__ import annotations

from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.config_fields import ConfigFields
from octavo.models.rope_config import RopeConfig, read_rope

_ACTIVATIONS = {"silu": "silu", "swish": "silu"}
_DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
_LAYER_TYPES = ("full_attention", "sliding_attention")


def read_decoder(
    fields: ConfigFields,
    architecture: str,
    *,
    default_head_dim: int | None = None,
    allows_partial_rotary: bool = False,
    rope: RopeConfig | None = None,
    hidden_act: str | None = None,
    default_bos: tuple[int, ...] = (),
    default_eos: tuple[int, ...] = (),
) -> ModelConfig:
    """Read what all families have.

    Args:
        default_head_dim: dimensions of a head if the field is absent; None divides hidden_size among the heads.
        allows_partial_rotary: a part of each head may be rotated.
        rope, hidden_act: rotation and activation, where the family has fields of its own for them.
        default_bos, default_eos: token ids that an absent field means.

    Raises:
        ModelError: a field is missing or wrong, or says something that is not supported.
    """
    num_attention_heads = fields.integer("num_attention_heads")
    num_key_value_heads = fields.integer("num_key_value_heads", num_attention_heads)
    if num_attention_heads % num_key_value_heads != 0:
        raise fields.error("num_key_value_heads", f"a divisor of num_attention_heads ({num_attention_heads})")
    hidden_size = fields.integer("hidden_size")
    num_hidden_layers = fields.integer("num_hidden_layers")
    max_position_embeddings = fields.integer("max_position_embeddings")
    head_dim = _head_dim(fields, hidden_size, num_attention_heads, default_head_dim)
    bos_token_ids = fields.token_ids("bos_token_id", default_bos)
    return ModelConfig(
        architecture=architecture,
        model_type=str(fields.raw("model_type") or ""),
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        head_dim=head_dim,
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
        hidden_act=hidden_act or fields.choice("hidden_act", _ACTIVATIONS, default="silu"),
        tie_word_embeddings=fields.boolean("tie_word_embeddings", False),
        rope=rope or read_rope(fields, max_position_embeddings, head_dim, allows_partial=allows_partial_rotary),
        max_position_embeddings=max_position_embeddings,
        layer_windows=(None,) * num_hidden_layers,
        dtype=fields.choice("dtype" if "dtype" in fields else "torch_dtype", _DTYPES, default="float32"),
        bos_token_id=bos_token_ids[0] if bos_token_ids else None,
        eos_token_ids=fields.token_ids("eos_token_id", default_eos),
    )


def _head_dim(fields: ConfigFields, hidden_size: int, num_attention_heads: int, default: int | None) -> int:
    if "head_dim" not in fields and default is None and hidden_size % num_attention_heads != 0:
        raise fields.error("hidden_size", f"a multiple of num_attention_heads ({num_attention_heads})")
    head_dim = fields.integer("head_dim", default or hidden_size // num_attention_heads)
    if head_dim % 2 != 0:
        raise ModelError(
            f"{fields.source}: the heads have {head_dim} dimensions; rotary embedding needs an even number."
        )
    return head_dim


def windows_by_type(fields: ConfigFields, window: int | None, num_hidden_layers: int) -> tuple[int | None, ...]:
    """Return what ``layer_types`` says; empty if the field is absent."""
    if "layer_types" not in fields:
        return ()
    types = fields.raw("layer_types")
    is_list = isinstance(types, list) and len(types) == num_hidden_layers
    if not is_list or not all(layer_type in _LAYER_TYPES for layer_type in types):
        raise fields.error("layer_types", f"a list of {num_hidden_layers} entries of {', '.join(_LAYER_TYPES)}")
    return tuple(window if layer_type == "sliding_attention" else None for layer_type in types)
