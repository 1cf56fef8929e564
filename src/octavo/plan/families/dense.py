"""Families whose layers have one dense MLP, gated unless its reader says otherwise."""

from __future__ import annotations

from octavo.plan.config_json import ConfigJson
from octavo.plan.families.decoder import Sizes, decoder, optional_window, windows_of
from octavo.plan.layer_parts import mlp
from octavo.plan.model_shape import ModelShape


def read_llama(fields: ConfigJson) -> ModelShape:
    """Llama, SmolLM3, Granite: biases of attention and of the MLP are optional."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size"), bias=fields.boolean("mlp_bias")),
    )


def read_mistral(fields: ConfigJson) -> ModelShape:
    """Mistral, Ministral, Phi-3: no biases, one window for all layers; 4096 in Mistral if the field is absent."""
    sizes = Sizes.of(fields)
    window = optional_window(fields, default=4096 if fields.raw("model_type") == "mistral" else None)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        windows=windows_of(fields, sizes.num_layers, window),
    )


def qwen_windows(fields: ConfigJson, num_layers: int) -> tuple[int | None, ...]:
    """Return the windows of Qwen's dense families: those of the upper layers, if they are switched on at all."""
    if not fields.boolean("use_sliding_window"):
        return ()
    first = fields.integer("max_window_layers", default=28, minimum=0)
    return windows_of(fields, num_layers, optional_window(fields, default=4096), lambda index: index >= first)


def read_qwen2(fields: ConfigJson) -> ModelShape:
    """Qwen2, Qwen2.5: query, key and value have a bias."""
    sizes = Sizes.of(fields)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=True),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        windows=qwen_windows(fields, sizes.num_layers),
    )


def read_qwen3(fields: ConfigJson) -> ModelShape:
    """Qwen3, HunYuan: each head's query and key are normalised, with one weight vector for all heads."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias, num_other_parameters=2 * sizes.head_dim),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        windows=qwen_windows(fields, sizes.num_layers),
    )


def read_gemma(fields: ConfigJson) -> ModelShape:
    """Gemma 1."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
    )


def read_gemma2(fields: ConfigJson) -> ModelShape:
    """Gemma 2: norms before and after attention and MLP; every other layer has a window."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    window = optional_window(fields, default=4096)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        num_norms=4,
        windows=windows_of(fields, sizes.num_layers, window, lambda index: index % 2 == 0),
    )


def read_gemma3(fields: ConfigJson) -> ModelShape:
    """Gemma 3: as Gemma 2 with normalised queries and keys; one layer of six sees all."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    full_every = fields.integer("sliding_window_pattern", default=6)
    window = optional_window(fields, default=4096)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias, num_other_parameters=2 * sizes.head_dim),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        num_norms=4,
        is_length_stretched=True,
        windows=windows_of(fields, sizes.num_layers, window, lambda index: (index + 1) % full_every != 0),
    )


def read_glm(fields: ConfigJson) -> ModelShape:
    """GLM-4 in its older form (``glm``) and its newer one (``glm4``), which also has norms after attention and MLP."""
    sizes = Sizes.of(fields)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=fields.boolean("attention_bias", True)),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        num_norms=4 if fields.raw("model_type") == "glm4" else 2,
    )


def read_seed_oss(fields: ConfigJson) -> ModelShape:
    """Seed-OSS: biases of attention's input, of its output and of the MLP are separate choices."""
    sizes = Sizes.of(fields)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(
            qkv_bias=fields.boolean("attention_bias", True), output_bias=fields.boolean("attention_out_bias")
        ),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size"), bias=fields.boolean("mlp_bias")),
    )


def read_ernie(fields: ConfigJson) -> ModelShape:
    """ERNIE 4.5: all biases or none."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("use_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size"), bias=bias),
    )


def read_olmo(fields: ConfigJson) -> ModelShape:
    """OLMo 1: its norms have no parameters."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        norm_size=0,
    )


def read_olmo2(fields: ConfigJson) -> ModelShape:
    """OLMo 2 and 3: queries and keys are normalised over all heads together; in OLMo 3 three layers of four slide."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    window = optional_window(fields, default=4096) if fields.raw("model_type") == "olmo3" else None
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(
            qkv_bias=bias, output_bias=bias, num_other_parameters=sizes.query_size + sizes.kv_size
        ),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        windows=windows_of(fields, sizes.num_layers, window, lambda index: (index + 1) % 4 != 0),
    )


def read_exaone4(fields: ConfigJson) -> ModelShape:
    """EXAONE 4: normalised queries and keys; three layers of four have a window if there is one."""
    sizes = Sizes.of(fields)
    full_every = fields.integer("sliding_window_pattern", default=4)
    window = optional_window(fields, default=4096)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(num_other_parameters=2 * sizes.head_dim),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        windows=windows_of(fields, sizes.num_layers, window, lambda index: (index + 1) % full_every != 0),
    )


def read_cohere(fields: ConfigJson) -> ModelShape:
    """Command R: attention and MLP share one norm; each head may have norms of its own."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    norms = sizes.query_size + sizes.kv_size if fields.boolean("use_qk_norm") else 0
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias, num_other_parameters=norms),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        num_norms=1,
    )


def read_cohere2(fields: ConfigJson) -> ModelShape:
    """Command R7B, Command A: as Command R; three layers of four have a window."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    full_every = fields.integer("sliding_window_pattern", default=4)
    window = optional_window(fields, default=4096)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        num_norms=1,
        windows=windows_of(fields, sizes.num_layers, window, lambda index: (index + 1) % full_every != 0),
    )


def read_starcoder2(fields: ConfigJson) -> ModelShape:
    """StarCoder2: biases everywhere by default, no gate, norms with a bias, one window for all layers."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("use_bias", True)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size"), gated=False, bias=bias),
        norm_size=2 * sizes.hidden,
        windows=windows_of(fields, sizes.num_layers, optional_window(fields)),
    )


def read_nemotron(fields: ConfigJson) -> ModelShape:
    """Nemotron, Minitron: no gate, norms with a bias."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size"), gated=False, bias=fields.boolean("mlp_bias")),
        norm_size=2 * sizes.hidden,
    )


def read_stablelm(fields: ConfigJson) -> ModelShape:
    """StableLM: norms with a bias; with a parallel residual attention and MLP share one."""
    sizes = Sizes.of(fields)
    head_norms = sizes.query_size + sizes.kv_size if fields.boolean("qk_layernorm") else 0
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=fields.boolean("use_qkv_bias"), num_other_parameters=head_norms),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size")),
        num_norms=1 if fields.boolean("use_parallel_residual") else 2,
        norm_size=2 * sizes.hidden,
    )


def read_arcee(fields: ConfigJson) -> ModelShape:
    """Arcee (AFM): Llama without the gate."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size"), gated=False, bias=fields.boolean("mlp_bias")),
    )


def read_apertus(fields: ConfigJson) -> ModelShape:
    """Apertus: normalised queries and keys, no gate, and an activation (xIELU) with two parameters."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias, num_other_parameters=2 * sizes.head_dim),
        mlp=mlp(sizes.hidden, fields.integer("intermediate_size"), gated=False, num_other_parameters=2),
    )
