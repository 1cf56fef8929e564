"""What request models are made of: strict models, bounded numbers, and fields that take only their neutral value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from octavo.errors import nearest_name

MAX_TOKENS_IN_A_REQUEST = 2**31 - 1

TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
NumTokens = Annotated[int, Field(ge=0, le=MAX_TOKENS_IN_A_REQUEST)]


class StrictModel(BaseModel):
    """A JSON object of a request: exact types, and no fields but those named."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for name in value:
            if name not in known:
                nearest = nearest_name(name, known)
                advice = f"did you mean {nearest!r}?" if nearest else "leave it out."
                raise request_error(
                    f"Unknown field {name!r}: {advice}", param=name, code="unknown_parameter", kind="unknown_field"
                )
        return value


def request_error(
    message: str, *, param: str | None = None, code: str | None = None, kind: str = "wrong_request"
) -> PydanticCustomError:
    """Make an error for use in validators whose message reaches the client as it is.

    Args:
        param: the field at fault, relative to the model whose validator raises.
    """
    return PydanticCustomError(kind, "{text}", {"text": message, "param": param, "code": code})


@dataclass(frozen=True)
class Only:
    """Annotation of a documented field that would change the output but that this version cannot obey.

    The field is accepted if it is null or has one of ``values``, which ask for what happens anyway.

    Attributes:
        instead: what is supported; ends the error's message.
    """

    values: tuple[object, ...] = ()
    instead: str = "leave it out"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"enum": [None, *self.values], "description": f"Other values are not supported: {self.instead}."}

    def _check(self, value: object, info: core_schema.ValidationInfo) -> object:
        if value is None or any(
            value == known and isinstance(value, bool) == isinstance(known, bool) for known in self.values
        ):
            return value
        shown = msgspec.json.encode(value).decode()
        shown = shown if len(shown) <= 80 else shown[:80] + "…"
        raise request_error(
            f"{info.field_name}={shown} is not supported: {self.instead}.",
            code="unsupported_value",
            kind="not_supported",
        )
