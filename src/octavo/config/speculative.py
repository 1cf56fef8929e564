"""The settings of speculative decoding, with the names that vLLM's ``--speculative-config`` gave them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from octavo.config.fields import settings_of
from octavo.errors import nearest_name

Method = Literal["ngram", "suffix", "draft_model"]

_EXAMPLE = '{"method": "ngram", "num_speculative_tokens": 5}'
_DEFAULT_NGRAM_MIN, _DEFAULT_NGRAM_MAX = 2, 5
_METHOD_OF_KEY: Mapping[str, Method] = {"prompt": "ngram", "suffix": "suffix"}  # by the key's first word


class SpeculativeConfig(BaseModel):
    """Where drafts come from, and how long they may be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = Field(
        description="Drafts from the sequence itself, from earlier outputs as well, or by a smaller model."
    )
    model: str | None = Field(
        None, description="The smaller model of draft_model: local directory or hub name; octavo-nano has its own."
    )
    num_speculative_tokens: int = Field(5, ge=1, le=32, description="Tokens of a draft at most.")
    prompt_lookup_min: int | None = Field(None, ge=1, le=64, description="ngram: least tokens that must be the same.")
    prompt_lookup_max: int | None = Field(None, ge=1, le=64, description="ngram: most tokens that are compared.")
    suffix_decoding_max_tree_depth: int = Field(24, ge=1, le=64, description="suffix: most tokens that are compared.")
    suffix_decoding_max_cached_requests: int = Field(
        10_000, ge=0, le=1_000_000, description="suffix: earlier outputs that are kept."
    )
    suffix_decoding_max_spec_factor: float = Field(
        1.0, gt=0, le=64, description="suffix: tokens of a draft for each token that was the same."
    )
    suffix_decoding_min_token_prob: float = Field(
        0.1, ge=0, le=1, description="suffix: least chance of a token, by what followed before."
    )

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.method != "draft_model" and self.model is not None:
            raise ValueError(f"method {self.method} takes no model; draft_model does")
        for name, key in type(self).model_fields.items():
            owner = _METHOD_OF_KEY.get(name.partition("_")[0], self.method)
            if owner != self.method and getattr(self, name) != key.default:
                raise ValueError(f"{name} belongs to method {owner}, not to {self.method}")
        shortest, longest = self.ngram_bounds
        if shortest > longest:
            raise ValueError(f"prompt_lookup_min={shortest} is more than prompt_lookup_max={longest}")
        return self

    @property
    def ngram_bounds(self) -> tuple[int, int]:
        """Least and most tokens that ``ngram`` compares."""
        longest = self.prompt_lookup_max or max(self.prompt_lookup_min or 0, _DEFAULT_NGRAM_MAX)
        return self.prompt_lookup_min or min(longest, _DEFAULT_NGRAM_MIN), longest


def with_draft_model(config: SpeculativeConfig, default: str | None) -> SpeculativeConfig:
    """Name the model of the method ``draft_model`` where it is left out.

    Args:
        default: the draft that the served model has of its own, if any.

    Raises:
        PydanticCustomError: there is none.
    """
    if config.method != "draft_model" or config.model is not None:
        return config
    if default is None:
        raise _wrong("method draft_model needs a key model: the directory or the hub name of the smaller model")
    return config.model_copy(update={"model": default})


def read_speculative_config(value: object) -> object:
    """Make the settings of a mapping or of its JSON text; other values are left to the type check.

    Raises:
        PydanticCustomError: with one line that says what is wrong and what would be right.
    """
    if value is None or isinstance(value, SpeculativeConfig):
        return value
    if isinstance(value, str):
        value = _parse(value)
    if not isinstance(value, Mapping):
        raise _wrong(f"{value!r} is not right; it must be a JSON object like {_EXAMPLE}")
    keys = {str(key).replace("-", "_"): item for key, item in value.items()}
    methods = get_args(Method)
    if "method" not in keys and "model" in keys:
        keys["method"] = "draft_model"
    if keys.get("method") not in methods:
        problem = f"method {keys['method']!r} is not supported" if "method" in keys else "there is no method in it"
        raise _wrong(f"{problem}; methods are {', '.join(methods)}")
    try:
        return SpeculativeConfig.model_validate(keys)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
    if not detail["loc"]:
        raise _wrong(detail["msg"].removeprefix("Value error, "))
    key, settings = str(detail["loc"][0]), settings_of(SpeculativeConfig)
    if key in settings:
        raise _wrong(f"{key}: {detail['input']!r} is not right; it must be {settings[key].allowed}")
    near = nearest_name(key, settings)
    raise _wrong(f"there is no key {key}; " + (f"did you mean {near}?" if near else f"keys are {', '.join(settings)}"))


def _parse(text: str) -> object:
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(f"{text!r} is not JSON; write an object like {_EXAMPLE}") from None
    return parsed


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("not_supported", "{message}", {"message": message})
