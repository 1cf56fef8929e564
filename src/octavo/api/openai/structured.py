"""The fields that hold an output to a form: ``response_format``, ``structured_outputs`` and the older ``guided_*``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from octavo.api.fields import Only, StrictModel
from octavo.engine.structured.params import CONSTRAINTS, StructuredOutputsParams
from octavo.errors import RequestError

MAX_CHOICES = 10_000

Schema = str | dict[str, Any]
Choices = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_CHOICES)]


class TextFormat(StrictModel):
    """Free text."""

    type: Literal["text"]


class JSONObjectFormat(StrictModel):
    """Any JSON object."""

    type: Literal["json_object"]


class JSONSchema(StrictModel):
    """A JSON Schema and its name."""

    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(None, alias="schema", description="Without it, any JSON object.")
    strict: bool | None = Field(None, description="Accepted; the schema always holds.")


class JSONSchemaFormat(StrictModel):
    """JSON that validates against a schema."""

    type: Literal["json_schema"]
    json_schema: JSONSchema


ResponseFormat = Annotated[TextFormat | JSONObjectFormat | JSONSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(StrictModel):
    """vLLM's constraints; exactly one of the first six."""

    json_: Schema | None = Field(None, alias="json", description="A JSON Schema, as an object or as text.")
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = Field(None, description="Lark, as llguidance reads it, or GBNF.")
    json_object: bool | None = None
    structural_tag: Schema | None = Field(None, description="Structures and triggers, as an object or as text.")
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None
    disable_fallback: bool = Field(False, description="Accepted; there is one backend.")


class StructureFields(StrictModel):
    """The fields of a request that say which form its output must have; at most one may."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = Field(None, description="Older name of structured_outputs.json.")
    guided_regex: str | None = Field(None, description="Older name of structured_outputs.regex.")
    guided_choice: Choices | None = Field(None, description="Older name of structured_outputs.choice.")
    guided_grammar: str | None = Field(None, description="Older name of structured_outputs.grammar.")
    structural_tag: Schema | None = Field(None, description="Older name of structured_outputs.structural_tag.")
    guided_whitespace_pattern: str | None = Field(
        None, description="Older name of structured_outputs.whitespace_pattern."
    )
    guided_decoding_backend: Annotated[
        Any, Only(values=("auto", "guidance", "llguidance"), instead="llguidance is the one backend; leave it out")
    ] = None


_OLDER_NAMES = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "structural_tag": "structural_tag",
}


def structured_outputs(request: StructureFields) -> StructuredOutputsParams | None:
    """Return the form that a request asks for; None for free text.

    Raises:
        RequestError: several fields ask for one, or what one asks for is incomplete; ``param`` names the field.
    """
    asking = [name for name in _OLDER_NAMES if getattr(request, name) is not None]
    if request.structured_outputs is not None:
        asking.append("structured_outputs")
    if request.response_format is not None and request.response_format.type != "text":
        asking.append("response_format")
    if len(asking) > 1:
        raise RequestError(f"{' and '.join(asking)} exclude each other: send one of them", param=asking[0])
    if not asking:
        if request.guided_whitespace_pattern is not None:
            raise RequestError(
                "guided_whitespace_pattern belongs to guided_json: send that too", param="guided_whitespace_pattern"
            )
        return None
    if asking[0] == "structured_outputs":
        return _from_structured_outputs(request.structured_outputs)
    if asking[0] == "response_format":
        return _from_response_format(request)
    value = getattr(request, asking[0])
    return StructuredOutputsParams(
        **{_OLDER_NAMES[asking[0]]: value}, whitespace_pattern=request.guided_whitespace_pattern
    )


def field_of_structure(request: StructureFields) -> str:
    """Return the field that asks for a form, for errors about it."""
    named = [name for name in ("structured_outputs", *_OLDER_NAMES) if getattr(request, name) is not None]
    return named[0] if named else "response_format"


def _from_structured_outputs(given: StructuredOutputs | None) -> StructuredOutputsParams:
    assert given is not None
    constraints = {name: getattr(given, "json_" if name == "json" else name) for name in CONSTRAINTS}
    return StructuredOutputsParams(
        **constraints,
        disable_any_whitespace=given.disable_any_whitespace,
        disable_additional_properties=given.disable_additional_properties,
        whitespace_pattern=given.whitespace_pattern,
    )


def _from_response_format(request: StructureFields) -> StructuredOutputsParams:
    asked = request.response_format
    schema = asked.json_schema.json_schema if isinstance(asked, JSONSchemaFormat) else None
    pattern = request.guided_whitespace_pattern
    if schema is None:
        return StructuredOutputsParams(json_object=True, whitespace_pattern=pattern)
    return StructuredOutputsParams(json=schema, whitespace_pattern=pattern)
