"""The sizes of multi-head latent attention. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttentionConfig:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434).

    Attributes:
        query_rank: size of the vector that queries are made from; None if they are made from the hidden state.
        latent_size: size of the vector that keys and values are made from.
        rotated_size: dimensions of each query, and of the one key of all heads, that are rotated.
        unrotated_size: dimensions of each head's query and key that are not.
        value_size: dimensions of each head's value.
        rope_is_interleaved: the checkpoint's pairs of rotated dimensions are neighbours.
    """

    query_rank: int | None
    latent_size: int
    rotated_size: int
    unrotated_size: int
    value_size: int
    rope_is_interleaved: bool
