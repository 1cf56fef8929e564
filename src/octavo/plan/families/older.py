"""Families from before gated MLPs: learned positions, biases everywhere, norms with a bias."""

from __future__ import annotations

from octavo.plan.config_json import ConfigJson
from octavo.plan.families.decoder import Sizes, decoder
from octavo.plan.layer_parts import mlp
from octavo.plan.model_shape import ModelShape


def read_gpt2(fields: ConfigJson) -> ModelShape:
    """GPT-2."""
    sizes = Sizes.of(fields)
    inner = fields.integer("n_inner", default=4 * sizes.hidden)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=True, output_bias=True),
        mlp=mlp(sizes.hidden, inner, gated=False, bias=True),
        norm_size=2 * sizes.hidden,
        num_position_parameters=fields.integer("n_positions", default=1024) * sizes.hidden,
    )


def read_gpt_neox(fields: ConfigJson) -> ModelShape:
    """GPT-NeoX, Pythia."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias", True)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size"), gated=False, bias=True),
        norm_size=2 * sizes.hidden,
    )


def read_opt(fields: ConfigJson) -> ModelShape:
    """OPT: two more positions than it says; the smallest model embeds tokens in fewer dimensions."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("enable_bias", True)
    has_affine_norms = fields.boolean("layer_norm_elementwise_affine", True)
    has_final_norm = fields.boolean("do_layer_norm_before", True) and not fields.boolean("_remove_final_layer_norm")
    embedding_size = fields.integer("word_embed_proj_dim", default=sizes.hidden)
    projections = 2 * embedding_size * sizes.hidden if embedding_size != sizes.hidden else 0
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("ffn_dim"), gated=False, bias=bias),
        norm_size=2 * sizes.hidden * has_affine_norms,
        num_final_norms=int(has_final_norm),
        num_position_parameters=(fields.integer("max_position_embeddings") + 2) * sizes.hidden,
        embedding_size=embedding_size,
        num_other_parameters=projections,
    )


def read_falcon(fields: ConfigJson) -> ModelShape:
    """Falcon: one key head, or in its newer form a few; attention and MLP may share a norm."""
    is_new = fields.boolean("new_decoder_architecture")
    sizes = Sizes.of(fields, kv_heads_field="num_kv_heads")
    if not is_new:
        num_kv_heads = 1 if fields.boolean("multi_query", True) else sizes.num_heads
        sizes = Sizes(sizes.hidden, sizes.num_layers, sizes.num_heads, num_kv_heads, sizes.head_dim)
    bias = fields.boolean("bias")
    num_norms = 2
    if fields.boolean("parallel_attn", True):
        num_norms = 2 if fields.integer("num_ln_in_parallel_attn", default=2 if is_new else 1) == 2 else 1
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("ffn_hidden_size", default=4 * sizes.hidden), gated=False, bias=bias),
        num_norms=num_norms,
        norm_size=2 * sizes.hidden,
    )


def read_phi(fields: ConfigJson) -> ModelShape:
    """Phi-1, Phi-2: attention and MLP share one norm; the head has a bias."""
    sizes = Sizes.of(fields)
    # Norms of heads are shared by all heads and have a bias; one for queries, one for keys.
    head_norms = 4 * sizes.head_dim if fields.boolean("qk_layernorm") else 0
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=True, output_bias=True, num_other_parameters=head_norms),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size"), gated=False, bias=True),
        num_norms=1,
        norm_size=2 * sizes.hidden,
        head_bias=True,
    )
