"""How positions become rotations: the rotary settings of a ``config.json``, in its old and its new form."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, cast

from octavo.errors import ModelError
from octavo.models.config_fields import ConfigFields

RopeType = Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope", "divided"]

_ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
_OLD_NAMES = {"su": "longrope"}
_DEFAULT_THETA = 10000.0


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary position embedding (arXiv:2104.09864) and how it is stretched beyond the trained length.

    Attributes:
        theta: base of the frequencies.
        factor: by how much the length is stretched; 1 for the default type.
        original_max_position_embeddings: the length before stretching.
        low_freq_factor, high_freq_factor: llama3: wavelengths between original length / high and / low are blended.
        attention_factor: yarn and longrope: multiplies cosine and sine; None derives it from factor, and for yarn from
            mscale and mscale_all_dim.
        beta_fast, beta_slow: yarn: rotations over the original length between which dimensions are blended.
        truncate: yarn: whether the blended range is rounded to whole dimensions.
        frequency_divisors: divided: what each frequency is divided by, as GGUF files state llama3's scaling; longrope:
            in a sequence whose prompt is not longer than the original length.
        long_frequency_divisors: longrope: the same for longer prompts.
        rotary_dim: how many of each head's dimensions are rotated, the first ones; None is all.
    """

    rope_type: RopeType = "default"
    theta: float = _DEFAULT_THETA
    factor: float = 1.0
    original_max_position_embeddings: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    frequency_divisors: tuple[float, ...] = ()
    long_frequency_divisors: tuple[float, ...] = ()
    rotary_dim: int | None = None

    def extended_length(self, max_position_embeddings: int) -> int:
        """Return the longest sequence that the model is made for, stretching included.

        Linear and dynamic scaling state the trained length in ``max_position_embeddings``; yarn states it as the
        original length; for the others ``max_position_embeddings`` is the stretched length already.
        """
        match self.rope_type:
            case "linear" | "dynamic":
                return int(max_position_embeddings * self.factor)
            case "yarn":
                return int(self.original_max_position_embeddings * self.factor)
            case _:
                return max_position_embeddings


def read_rope(
    fields: ConfigFields, max_position_embeddings: int, head_dim: int, *, allows_partial: bool = False
) -> RopeConfig:
    """Read ``rope_parameters``, or the older ``rope_scaling`` beside ``rope_theta``.

    Args:
        head_dim: dimensions of a head.
        allows_partial: the family may rotate a part of each head.

    Raises:
        ModelError: the rope type is not supported, or a field is missing or wrong.
    """
    section = fields.section("rope_scaling") or fields.section("rope_parameters") or ConfigFields({}, fields.source)
    return read_rope_section(fields, section, max_position_embeddings, head_dim, allows_partial=allows_partial)


def read_rope_section(
    fields: ConfigFields,
    section: ConfigFields,
    max_position_embeddings: int,
    head_dim: int,
    *,
    allows_partial: bool = False,
) -> RopeConfig:
    """Read one section with rotary settings; ``fields`` around it has what the section leaves out."""
    rotary_dim = _rotary_dim(fields, section, head_dim) if allows_partial else head_dim
    if not allows_partial:
        _refuse_partial(fields, section)
    _refuse_nested(section)
    rope_type = _rope_type(section)
    theta = _theta(section if "rope_theta" in section else fields)
    # A length beside the section wins over one inside, as in transformers.
    lengths = fields if "original_max_position_embeddings" in fields else section
    original = lengths.integer("original_max_position_embeddings", max_position_embeddings)
    match rope_type:
        case "default":
            rope = RopeConfig(theta=theta, original_max_position_embeddings=max_position_embeddings)
        case "linear" | "dynamic":
            rope = RopeConfig(
                rope_type=rope_type,
                theta=theta,
                factor=section.number("factor", minimum=1),
                original_max_position_embeddings=max_position_embeddings,
            )
        case "llama3":
            rope = _read_llama3(section, theta, original)
        case "longrope":
            rope = _read_longrope(section, theta, original, max_position_embeddings, num_frequencies=rotary_dim // 2)
        case _:  # yarn: no config.json states divisors
            rope = _read_yarn(section, theta, original, max_position_embeddings)
    return rope if rotary_dim == head_dim else replace(rope, rotary_dim=rotary_dim)


def magnitude(factor: float, weight: float) -> float:
    """Return by how much YaRN, stretching by ``factor``, makes queries and keys longer."""
    return 0.1 * weight * math.log(factor) + 1.0


def _theta(holder: ConfigFields) -> float:
    theta = holder.number("rope_theta", _DEFAULT_THETA)
    if theta <= 1:
        raise holder.error("rope_theta", "a number above 1")
    return theta


def _rope_type(section: ConfigFields) -> RopeType:
    name = "rope_type" if "rope_type" in section else "type"
    rope_type = section.choice(name, {name: name for name in _ROPE_TYPES} | _OLD_NAMES, default="default")
    return cast(RopeType, rope_type)


def _refuse_partial(fields: ConfigFields, section: ConfigFields) -> None:
    for holder in (fields, section):
        if holder.number("partial_rotary_factor", 1.0) != 1.0:
            raise holder.error("partial_rotary_factor", "1: this family rotates whole heads")


def _rotary_dim(fields: ConfigFields, section: ConfigFields, head_dim: int) -> int:
    holder = section if "partial_rotary_factor" in section else fields
    rotary_dim = int(head_dim * holder.number("partial_rotary_factor", 1.0))
    if not 0 < rotary_dim <= head_dim or rotary_dim % 2:
        raise holder.error("partial_rotary_factor", f"the share of an even number of a head's {head_dim} dimensions")
    return rotary_dim


def _refuse_nested(section: ConfigFields) -> None:
    nested = [name for name in section.names() if isinstance(section.raw(name), dict)]
    if nested:
        raise ModelError(
            f"{section.source}: rotary settings that differ between layers ({', '.join(nested)}) are not supported."
        )


def _read_llama3(section: ConfigFields, theta: float, original: int) -> RopeConfig:
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if low <= 0:
        raise section.error("low_freq_factor", "a number above 0")
    if high <= low:
        raise section.error("high_freq_factor", f"more than low_freq_factor ({low:g})")
    return RopeConfig(
        rope_type="llama3",
        theta=theta,
        factor=section.number("factor", minimum=1),
        original_max_position_embeddings=original,
        low_freq_factor=low,
        high_freq_factor=high,
    )


def _read_yarn(section: ConfigFields, theta: float, original: int, max_position_embeddings: int) -> RopeConfig:
    return RopeConfig(
        rope_type="yarn",
        theta=theta,
        factor=section.number("factor", max_position_embeddings / original, minimum=1),
        original_max_position_embeddings=original,
        attention_factor=section.optional_number("attention_factor"),
        # 0 means "not given" in transformers.
        beta_fast=section.number("beta_fast", 32.0) or 32.0,
        beta_slow=section.number("beta_slow", 1.0) or 1.0,
        mscale=section.optional_number("mscale"),
        mscale_all_dim=section.optional_number("mscale_all_dim"),
        truncate=section.boolean("truncate", True),
    )


def _read_longrope(
    section: ConfigFields, theta: float, original: int, max_position_embeddings: int, *, num_frequencies: int
) -> RopeConfig:
    return RopeConfig(
        rope_type="longrope",
        theta=theta,
        factor=section.number("factor", max_position_embeddings / original),
        original_max_position_embeddings=original,
        attention_factor=section.optional_number("attention_factor"),
        frequency_divisors=section.numbers("short_factor", num_frequencies),
        long_frequency_divisors=section.numbers("long_factor", num_frequencies),
    )
