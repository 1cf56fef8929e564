"""Families with a mixture of experts in all layers or in some, and those with latent attention."""

from __future__ import annotations

from octavo.plan.config_json import ConfigJson
from octavo.plan.families.decoder import Sizes, decoder, optional_window, windows_of
from octavo.plan.layer_parts import latent_attention, mixture_of_experts, mlp
from octavo.plan.model_shape import AttentionShape, MlpShape, ModelShape


def read_mixtral(fields: ConfigJson) -> ModelShape:
    """Mixtral: experts in all layers, and Mistral's attention without its window by default."""
    sizes = Sizes.of(fields)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(),
        mlp=_experts(fields, sizes, "intermediate_size"),
        windows=windows_of(fields, sizes.num_layers, optional_window(fields)),
    )


def read_qwen2_moe(fields: ConfigJson) -> ModelShape:
    """Qwen1.5-MoE, Qwen2-MoE: a shared expert behind a gate of its own."""
    sizes = Sizes.of(fields)
    shared_size = fields.integer("shared_expert_intermediate_size", default=5632)
    mixture = mixture_of_experts(
        sizes.hidden,
        fields.integer("moe_intermediate_size", default=1408),
        fields.integer("num_experts", default=60),
        fields.integer("num_experts_per_tok", default=4),
        shared_size=shared_size,
        num_other_parameters=sizes.hidden,
    )
    windows: tuple[int | None, ...] = ()
    if fields.boolean("use_sliding_window"):
        last = fields.integer("max_window_layers", default=28, minimum=0)
        window = optional_window(fields, default=4096)
        windows = windows_of(fields, sizes.num_layers, window, lambda index: index % 2 == 0 and index < last)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=fields.boolean("qkv_bias", True)),
        mlp=_SparseSteps(fields, sizes, mixture),
        windows=windows,
    )


def read_qwen3_moe(fields: ConfigJson) -> ModelShape:
    """Qwen3-MoE: normalised queries and keys, no shared expert."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    mixture = mixture_of_experts(
        sizes.hidden,
        fields.integer("moe_intermediate_size", default=768),
        fields.integer("num_experts", "num_local_experts", default=128),
        fields.integer("num_experts_per_tok", default=8),
    )
    window = optional_window(fields, default=4096) if fields.boolean("use_sliding_window") else None
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias, num_other_parameters=2 * sizes.head_dim),
        mlp=_SparseSteps(fields, sizes, mixture),
        windows=windows_of(fields, sizes.num_layers, window),
    )


def read_granite_moe(fields: ConfigJson) -> ModelShape:
    """Granite 3 MoE."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=_experts(fields, sizes, "intermediate_size"),
    )


def read_olmoe(fields: ConfigJson) -> ModelShape:
    """OLMoE: queries and keys are normalised over all heads together."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(
            qkv_bias=bias, output_bias=bias, num_other_parameters=sizes.query_size + sizes.kv_size
        ),
        mlp=_experts(fields, sizes, "intermediate_size"),
    )


def read_phimoe(fields: ConfigJson) -> ModelShape:
    """Phi-3.5-MoE: norms with a bias; attention and head may have one."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=_experts(fields, sizes, "intermediate_size"),
        norm_size=2 * sizes.hidden,
        windows=windows_of(fields, sizes.num_layers, optional_window(fields)),
        head_bias=fields.boolean("lm_head_bias"),
    )


def read_minimax_m2(fields: ConfigJson) -> ModelShape:
    """MiniMax-M2: queries and keys are normalised over all heads together."""
    sizes = Sizes.of(fields)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(num_other_parameters=sizes.query_size + sizes.kv_size),
        mlp=_experts(fields, sizes, "intermediate_size"),
    )


def read_gpt_oss(fields: ConfigJson) -> ModelShape:
    """GPT-OSS: biases everywhere, a sink for each head, a window in every other layer."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias", True)
    window = optional_window(fields, default=128)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias, num_other_parameters=sizes.num_heads),
        mlp=mixture_of_experts(
            sizes.hidden,
            fields.integer("intermediate_size"),
            fields.integer("num_local_experts", default=128),
            fields.integer("num_experts_per_tok", "experts_per_token", default=4),
            bias=True,
            router_bias=True,
        ),
        windows=windows_of(fields, sizes.num_layers, window, lambda index: index % 2 == 0),
    )


def read_llama4(fields: ConfigJson) -> ModelShape:
    """Llama 4: a shared expert beside the others; three layers of four attend within chunks."""
    sizes = Sizes.of(fields)
    bias = fields.boolean("attention_bias")
    expert_size = fields.integer("intermediate_size")
    mixture = mixture_of_experts(
        sizes.hidden,
        expert_size,
        fields.integer("num_local_experts", default=16),
        fields.integer("num_experts_per_tok", default=1),
        shared_size=expert_size,
    )
    dense = mlp(sizes.hidden, fields.integer("intermediate_size_mlp", default=16384))
    step = fields.integer("interleave_moe_layer_step", default=1)
    sparse = frozenset(fields.integers("moe_layers") or range(step - 1, sizes.num_layers, step))
    has_chunks = fields.integers("no_rope_layers") or tuple((i + 1) % 4 for i in range(sizes.num_layers))
    chunk = fields.integer("attention_chunk_size", default=8192)
    return decoder(
        fields,
        sizes,
        attention=sizes.attention(qkv_bias=bias, output_bias=bias),
        mlp=lambda index: mixture if index in sparse else dense,
        windows=windows_of(fields, sizes.num_layers, chunk, lambda index: bool(has_chunks[index])),
    )


def read_deepseek(fields: ConfigJson) -> ModelShape:
    """DeepSeek-V2, DeepSeek-V3, Kimi-K2: latent attention; the first layers are dense."""
    sizes = Sizes.of(fields)
    # An absent rank is V3's; a null one (V2-Lite) means that queries have no low-rank form.
    q_lora_rank = None if fields.is_null("q_lora_rank") else fields.integer("q_lora_rank", default=1536)
    attention = latent_attention(
        sizes.hidden,
        sizes.num_heads,
        q_lora_rank=q_lora_rank,
        kv_lora_rank=fields.integer("kv_lora_rank", default=512),
        qk_nope_head_dim=fields.integer("qk_nope_head_dim", default=128),
        qk_rope_head_dim=fields.integer("qk_rope_head_dim", default=64),
        v_head_dim=fields.integer("v_head_dim", default=128),
        bias=fields.boolean("attention_bias"),
    )
    return _first_layers_dense(fields, sizes, attention, mlp_bias=fields.boolean("mlp_bias"))


def read_glm4_moe(fields: ConfigJson) -> ModelShape:
    """GLM-4.5: DeepSeek's experts with grouped-query attention."""
    sizes = Sizes.of(fields)
    attention = sizes.attention(
        qkv_bias=fields.boolean("attention_bias"),
        num_other_parameters=2 * sizes.head_dim if fields.boolean("use_qk_norm") else 0,
    )
    return _first_layers_dense(fields, sizes, attention)


def _first_layers_dense(
    fields: ConfigJson, sizes: Sizes, attention: AttentionShape, *, mlp_bias: bool = False
) -> ModelShape:
    expert_size = fields.integer("moe_intermediate_size")
    mixture = mixture_of_experts(
        sizes.hidden,
        expert_size,
        fields.integer("n_routed_experts"),
        fields.integer("num_experts_per_tok", default=8),
        shared_size=expert_size * fields.integer("n_shared_experts", default=1, minimum=0),
        shared_bias=mlp_bias,
    )
    dense = mlp(sizes.hidden, fields.integer("intermediate_size"), bias=mlp_bias)
    first = fields.integer("first_k_dense_replace", default=0, minimum=0)
    return decoder(fields, sizes, attention=attention, mlp=lambda index: mixture if index >= first else dense)


def _experts(fields: ConfigJson, sizes: Sizes, size_field: str) -> MlpShape:
    return mixture_of_experts(
        sizes.hidden,
        fields.integer(size_field),
        fields.integer("num_local_experts", "num_experts"),
        fields.integer("num_experts_per_tok"),
    )


class _SparseSteps:
    """Qwen's choice of the layers that have experts: each ``decoder_sparse_step``-th, but not ``mlp_only_layers``."""

    def __init__(self, fields: ConfigJson, sizes: Sizes, mixture: MlpShape) -> None:
        self._mixture = mixture
        self._dense_layers = fields.integers("mlp_only_layers")
        self._step = fields.integer("decoder_sparse_step", default=1)
        self._dense = mlp(sizes.hidden, fields.integer("intermediate_size"))

    def __call__(self, index: int) -> MlpShape:
        is_sparse = index not in self._dense_layers and (index + 1) % self._step == 0
        return self._mixture if is_sparse else self._dense
