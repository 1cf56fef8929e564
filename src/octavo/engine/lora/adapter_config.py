"""``adapter_config.json`` of a LoRA adapter in the format of PEFT. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import ModelError

CONFIG_FILE = "adapter_config.json"
_MAX_CONFIG_BYTES = 2**20
_LITERAL_NAME = re.compile(r"[\w.]+")
# What changes the result in a way that is not computed here, and the values that leave it as it is.
_REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "bias": (("none", None), "trained biases"),
    "lora_bias": ((False, None), "biases in the adapter"),
    "use_dora": ((False, None), "DoRA"),
    "use_qalora": ((False, None), "QALoRA"),
    "modules_to_save": (([], None), "whole modules beside the low-rank matrices"),
    "trainable_token_indices": (([], {}, None), "trained token embeddings"),
    "layer_replication": (([], None), "repeated layers"),
    "target_parameters": (([], None), "parameters that are not linear layers"),
    "alora_invocation_tokens": (([], None), "activation by tokens"),
    "arrow_config": ((None,), "routing between adapters"),
}


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter says about itself.

    Attributes:
        base_model: the model that it was trained on; None if it does not say.
        rank: of the projections that ``ranks`` does not name.
        alpha: numerator of their scale, where ``alphas`` does not name another.
        use_rslora: the scale is ``alpha / sqrt(rank)`` (arXiv:2312.03732) instead of ``alpha / rank``.
        target_names: names, or ends of names, of the projections that it changes; None if it gives a pattern.
        ranks, alphas: other values by name, or end of name.
    """

    base_model: str | None
    rank: int
    alpha: float
    use_rslora: bool
    target_names: tuple[str, ...] | None
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]

    @classmethod
    def from_directory(cls, directory: Path) -> AdapterConfig:
        """Read the file of an adapter.

        Raises:
            ModelError: it is missing or wrong, or the adapter is of a kind that is not supported.
        """
        path = directory / CONFIG_FILE
        values = _read(path)
        kind = values.get("peft_type")
        if kind != "LORA":
            raise ModelError(f"{path}: peft_type is {kind!r}; only adapters of type 'LORA' are supported.")
        for name, (neutral, what) in _REFUSED.items():
            if values.get(name) not in neutral:
                raise ModelError(
                    f"{path}: {name} is {values[name]!r}: {what} are not supported. Merge the adapter into its base "
                    "model with PEFT's merge_and_unload(), and serve that."
                )
        use_rslora = values.get("use_rslora", False)
        if not isinstance(use_rslora, bool):
            raise ModelError(f"{path}: use_rslora is {use_rslora!r}; it must be true or false.")
        base_model = values.get("base_model_name_or_path")
        return cls(
            base_model=base_model if isinstance(base_model, str) else None,
            rank=_rank(values.get("r"), "r", path),
            alpha=_alpha(values.get("lora_alpha"), "lora_alpha", path),
            use_rslora=use_rslora,
            target_names=_target_names(values.get("target_modules"), path),
            ranks={name: _rank(value, name, path) for name, value in _by_name(values, "rank_pattern", path).items()},
            alphas={name: _alpha(value, name, path) for name, value in _by_name(values, "alpha_pattern", path).items()},
        )

    def rank_of(self, projection: str) -> int:
        """Return the rank that the adapter has for a projection, named like ``model.layers.0.self_attn.q_proj``."""
        return next((rank for name, rank in self.ranks.items() if _names(name, projection)), self.rank)

    def scale_of(self, projection: str) -> float:
        """Return the factor of what the adapter adds to a projection."""
        alpha = next((alpha for name, alpha in self.alphas.items() if _names(name, projection)), self.alpha)
        rank = self.rank_of(projection)
        return alpha / (rank**0.5 if self.use_rslora else rank)

    def targets(self, projection: str) -> bool:
        """Whether the adapter names a projection; False if it gives a pattern instead of names."""
        return any(_names(name, projection) for name in self.target_names or ())


def _names(name: str, projection: str) -> bool:
    return projection == name or projection.endswith("." + name)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_CONFIG_BYTES + 1)
        if len(content) > _MAX_CONFIG_BYTES:
            raise ModelError(f"{path} is larger than {_MAX_CONFIG_BYTES:,} bytes: that is no adapter's configuration.")
        values = json.loads(content)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}). An adapter is a local directory with {CONFIG_FILE} and "
            "adapter_model.safetensors, as PEFT's save_pretrained() writes it."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} must hold a JSON object, not a {type(values).__name__}.")
    return values


def _rank(value: object, name: str, path: Path) -> int:
    if type(value) is not int or value < 1:
        raise ModelError(f"{path}: the rank {name} is {value!r}; it must be a whole number from 1 on.")
    return value


def _alpha(value: object, name: str, path: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e9:
        raise ModelError(f"{path}: the alpha {name} is {value!r}; it must be a number.")
    return float(value)


def _target_names(value: object, path: Path) -> tuple[str, ...] | None:
    """Return the names; a pattern is not evaluated, as the tensors of the adapter say the same."""
    if isinstance(value, str):
        return None
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ModelError(f"{path}: target_modules is {value!r}; it must be a list of names or a pattern.")
    return tuple(value)


def _by_name(values: Mapping[str, Any], field: str, path: Path) -> Mapping[str, object]:
    found = values.get(field) or {}
    if not isinstance(found, dict):
        raise ModelError(f"{path}: {field} is {found!r}; it must be an object with a value for each name.")
    for name in found:
        if _LITERAL_NAME.fullmatch(name) is None:
            raise ModelError(f"{path}: {field} has the key {name!r}; only names of modules are supported, no patterns.")
    return found
