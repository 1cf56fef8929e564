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

    An explicit ``"do_sample": false`` means greedy decoding, as it does in transformers.

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
        if document.get("do_sample") is False:
            values["temperature"] = 0.0
        try:
            defaults = msgspec.convert(values, cls)
            defaults.sampling_params()
        except (msgspec.ValidationError, RequestError) as error:
            raise ModelError(f"{path}: {error}. Mend or remove the file.") from None
        return defaults

    def sampling_params(self) -> SamplingParams:
        """Return the parameters of a request that names none."""
        params = SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
        )
        return (
            params if self.max_new_tokens is None else msgspec.structs.replace(params, max_tokens=self.max_new_tokens)
        )
