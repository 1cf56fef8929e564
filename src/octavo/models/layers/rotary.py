"""Rotary position embedding (arXiv:2104.09864): the angles of each position, under each kind of length scaling.

Frequencies are made on the CPU in float32, so that every device rotates by the same angles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from octavo.models.layers.parameters import Placement
from octavo.models.rope_config import RopeConfig, magnitude


class RotaryEmbedding(nn.Module):
    """Cosine and sine of the angle by which each pair of a head's dimensions is rotated at a position."""

    inverse_frequencies: Tensor
    long_frequencies: Tensor
    exponents: Tensor

    def __init__(self, rope: RopeConfig, head_dim: int, placement: Placement) -> None:
        super().__init__()
        self.rope = rope
        self.rotary_dim = rope.rotary_dim or head_dim
        self.dtype = placement.dtype
        self.attention_factor = _attention_factor(rope)
        frequencies = _INVERSE_FREQUENCIES[rope.rope_type](rope, self.rotary_dim)
        long_frequencies = _long_frequencies(rope, self.rotary_dim)
        self.register_buffer("inverse_frequencies", frequencies.to(placement.device), persistent=False)
        self.register_buffer("long_frequencies", long_frequencies.to(placement.device), persistent=False)
        self.register_buffer("exponents", _exponents(self.rotary_dim).to(placement.device), persistent=False)

    def cos_sin(self, positions: Tensor, prompt_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine for each token, once a step for all layers.

        Args:
            positions: ``[num_tokens]`` int64.
            prompt_lens: ``[num_tokens]`` int64, prompt length of each token's sequence.

        Returns:
            Two tensors ``[num_tokens, rotary_dim]`` in the model's type, each angle once for either half of the rotated
            part of a head.
        """
        frequencies = self.inverse_frequencies
        if self.rope.rope_type == "dynamic":
            frequencies = self._dynamic_frequencies(torch.maximum(prompt_lens, positions + 1))
        elif self.rope.rope_type == "longrope":
            # By the prompt alone: a sequence that grew beyond the length would need all of its keys anew.
            is_long = (prompt_lens > self.rope.original_max_position_embeddings).unsqueeze(1)
            frequencies = torch.where(is_long, self.long_frequencies, frequencies)
        angles = positions.unsqueeze(1).float() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return (
            (angles.cos() * self.attention_factor).to(self.dtype),
            (angles.sin() * self.attention_factor).to(self.dtype),
        )

    def _dynamic_frequencies(self, lengths: Tensor) -> Tensor:
        """Dynamic NTK scaling: beyond the trained length the base grows with the sequence.

        The base of a token is that of the length which its sequence had when the token was first computed: the prompt's
        for a token of the prompt. So it does not depend on the batch, on chunking or on preemption.

        Args:
            lengths: ``[num_tokens]``.

        Returns:
            ``[num_tokens, rotary_dim / 2]``.
        """
        trained, factor = self.rope.original_max_position_embeddings, self.rope.factor
        stretch = factor * lengths.clamp(min=trained) / trained - (factor - 1)
        bases = self.rope.theta * _power(stretch, self.rotary_dim / (self.rotary_dim - 2))
        return 1.0 / _power(bases.unsqueeze(1), self.exponents)


def _power(base: Tensor, exponent: Tensor | float) -> Tensor:
    """Return ``base ** exponent`` in float32 by logarithms in float64.

    Their bits are the same wherever an element lies, which is not so of torch's own powers.
    """
    return (base.double().log() * exponent).exp().float()


def _exponents(head_dim: int) -> Tensor:
    return torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim


def _default_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """``theta ** (-2i / head_dim)``, shape ``[head_dim / 2]``."""
    return 1.0 / (rope.theta ** _exponents(head_dim))


def _linear_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Position interpolation (arXiv:2306.15595)."""
    return _default_frequencies(rope, head_dim) / rope.factor


def _llama3_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Llama 3.1: long wavelengths are interpolated, short ones kept, those between are blended."""
    frequencies = _default_frequencies(rope, head_dim)
    rotations = rope.original_max_position_embeddings * frequencies / (2 * math.pi)
    blend = (rotations - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return (1 - blend) * frequencies / rope.factor + blend * frequencies


def _yarn_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """YaRN (arXiv:2309.00071): dimensions that turn often are kept, those that turn little are interpolated."""

    def dimension_of(rotations: float) -> float:
        # The (real-valued) pair of dimensions that makes so many rotations over the original length.
        wavelength = rope.original_max_position_embeddings / (rotations * 2 * math.pi)
        return head_dim * math.log(wavelength) / (2 * math.log(rope.theta))

    low, high = dimension_of(rope.beta_fast), dimension_of(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low if high != low else 0.001
    interpolated = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
    frequencies = _default_frequencies(rope, head_dim)
    return frequencies / rope.factor * interpolated + frequencies * (1 - interpolated)


def _divided_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Each frequency by a number of its own."""
    return _default_frequencies(rope, head_dim) / torch.tensor(rope.frequency_divisors)


def _long_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """LongRoPE (arXiv:2402.13753): the frequencies beyond the trained length; empty for other types."""
    if not rope.long_frequency_divisors:
        return torch.empty(0)
    return 1.0 / (torch.tensor(rope.long_frequency_divisors) * rope.theta ** _exponents(head_dim))


def _attention_factor(rope: RopeConfig) -> float:
    """The temperature of attention under YaRN and LongRoPE, applied to both query and key."""
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.rope_type == "longrope":
        if rope.factor <= 1:
            return 1.0
        return math.sqrt(1 + math.log(rope.factor) / math.log(rope.original_max_position_embeddings))
    if rope.rope_type != "yarn":
        return 1.0
    if rope.mscale and rope.mscale_all_dim:
        return magnitude(rope.factor, rope.mscale) / magnitude(rope.factor, rope.mscale_all_dim)
    return magnitude(rope.factor, 1.0)


_INVERSE_FREQUENCIES: dict[str, Callable[[RopeConfig, int], Tensor]] = {
    "default": _default_frequencies,
    "linear": _linear_frequencies,
    "dynamic": _default_frequencies,
    "llama3": _llama3_frequencies,
    "yarn": _yarn_frequencies,
    "longrope": _divided_frequencies,
    "divided": _divided_frequencies,
}
