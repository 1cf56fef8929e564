"""The kinds of attention and of MLPs that decoder layers are made of, as counts."""

from __future__ import annotations

from octavo.plan.model_shape import AttentionShape, Linear, MlpShape


def grouped_query_attention(
    hidden_size: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    num_other_parameters: int = 0,
) -> AttentionShape:
    """Return multi-head (as many key heads as heads), grouped-query or multi-query (one key head) attention.

    arXiv:2305.13245.
    """
    query_size, kv_size = num_heads * head_dim, num_kv_heads * head_dim
    return AttentionShape(
        linears=(
            Linear(in_features=hidden_size, out_features=query_size + 2 * kv_size, has_bias=qkv_bias),
            Linear(in_features=query_size, out_features=hidden_size, has_bias=output_bias),
        ),
        num_other_parameters=num_other_parameters,
        num_kv_heads=num_kv_heads,
        kv_elements_per_token=2 * kv_size,
        macs_per_pair=2 * query_size,
    )


def latent_attention(
    hidden_size: int,
    num_heads: int,
    *,
    q_lora_rank: int | None,
    kv_lora_rank: int,
    qk_nope_head_dim: int,
    qk_rope_head_dim: int,
    v_head_dim: int,
    bias: bool = False,
) -> AttentionShape:
    """Return multi-head latent attention (DeepSeek-V2, arXiv:2405.04434).

    The cache keeps the latent vector and one rotated key for each token, shared by all heads. The engines that do so
    fold the up-projections into query and output, and so attend in the latent space.
    """
    query_size = num_heads * (qk_nope_head_dim + qk_rope_head_dim)
    latent_size = kv_lora_rank + qk_rope_head_dim
    query: tuple[Linear, ...]
    if q_lora_rank is None:
        query = (Linear(in_features=hidden_size, out_features=query_size),)
    else:
        query = (
            Linear(in_features=hidden_size, out_features=q_lora_rank, has_bias=bias),
            Linear(in_features=q_lora_rank, out_features=query_size),
        )
    return AttentionShape(
        linears=(
            *query,
            Linear(in_features=hidden_size, out_features=latent_size, has_bias=bias),
            Linear(in_features=kv_lora_rank, out_features=num_heads * (qk_nope_head_dim + v_head_dim)),
            Linear(in_features=num_heads * v_head_dim, out_features=hidden_size, has_bias=bias),
        ),
        num_other_parameters=(q_lora_rank or 0) + kv_lora_rank,
        num_kv_heads=1,
        kv_elements_per_token=latent_size,
        is_latent=True,
        macs_per_pair=num_heads * (latent_size + kv_lora_rank),
    )


def mlp(
    hidden_size: int, intermediate_size: int, *, gated: bool = True, bias: bool = False, num_other_parameters: int = 0
) -> MlpShape:
    """Return a dense MLP: up, activation, down; with a gate beside the up-projection if ``gated``."""
    width = 2 * intermediate_size if gated else intermediate_size
    return MlpShape(
        linears=(
            Linear(in_features=hidden_size, out_features=width, has_bias=bias),
            Linear(in_features=intermediate_size, out_features=hidden_size, has_bias=bias),
        ),
        width=width,
        num_other_parameters=num_other_parameters,
    )


def mixture_of_experts(
    hidden_size: int,
    expert_size: int,
    num_experts: int,
    num_experts_per_tok: int,
    *,
    bias: bool = False,
    shared_size: int = 0,
    shared_bias: bool = False,
    router_bias: bool = False,
    num_other_parameters: int = 0,
) -> MlpShape:
    """Return gated experts behind a router, and one gated MLP that all tokens use if ``shared_size`` is not 0.

    Args:
        num_other_parameters: what there is beside experts, shared MLP and router.
    """
    experts = (
        Linear(
            in_features=hidden_size,
            out_features=2 * expert_size,
            has_bias=bias,
            count=num_experts,
            num_active=num_experts_per_tok,
        ),
        Linear(
            in_features=expert_size,
            out_features=hidden_size,
            has_bias=bias,
            count=num_experts,
            num_active=num_experts_per_tok,
        ),
    )
    shared = mlp(hidden_size, shared_size, bias=shared_bias).linears if shared_size else ()
    return MlpShape(
        linears=experts + shared,
        width=2 * (num_experts_per_tok * expert_size + shared_size),
        num_other_parameters=num_experts * (hidden_size + router_bias) + num_other_parameters,
    )
