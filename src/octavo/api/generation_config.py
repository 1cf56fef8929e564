"""The sampling defaults that a model's makers recommend, from its ``generation_config.json``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from octavo.engine.sampling_params import SamplingParams
from octavo.errors import ModelError, RequestError

_FILE_NAME = "generation_config.json"


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What a request that says nothing gets; the same fields that vLLM takes over.

    Attributes:
        max_new_tokens: most tokens of a chat answer; None means up to the model's length.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int | None = None

    @classmethod
    def from_directory(cls, directory: Path) -> GenerationDefaults:
        """Read the defaults of a model; a model without the file, or without a field, has neutral ones.

        Raises:
            ModelError: the file is broken or recommends what no request could ask for.
        """
        path = directory / _FILE_NAME
        if not path.is_file():
            return cls()
        try:
            document: Any = msgspec.json.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise ModelError(f"{path} cannot be read: {error}. Mend or remove the file.") from None
        if not isinstance(document, dict):
            raise ModelError(f"{path} must hold a JSON object. Mend or remove the file.")
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in document.items() if name in known and value is not None}
        try:
            defaults = msgspec.convert(values, cls)
            SamplingParams(
                temperature=defaults.temperature,
                top_p=defaults.top_p,
                top_k=defaults.top_k,
                min_p=defaults.min_p,
                repetition_penalty=defaults.repetition_penalty,
                max_tokens=defaults.max_new_tokens,
            )
        except (msgspec.ValidationError, RequestError) as error:
            raise ModelError(f"{path}: {error}. Mend or remove the file.") from None
        return defaults
