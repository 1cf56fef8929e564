"""The messages of a chat request, and what a chat template gets to see of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from octavo.api.fields import Only, StrictModel, request_error

_MEDIA_TYPES = ("image_url", "input_audio", "video_url", "audio_url", "file")


class TextPart(StrictModel):
    """A part of a message's content. Only text exists in this version."""

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = Field(None, description="Accepted; caching is automatic.")


def _refuse_media(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _MEDIA_TYPES:
        raise request_error(
            f"Content of type {kind!r} is not supported: this version takes text only.",
            param="type",
            code="unsupported_value",
            kind="not_supported",
        )
    return part


class RefusalPart(StrictModel):
    """A refusal that an assistant gave earlier."""

    type: Literal["refusal"]
    refusal: str


Content = str | Annotated[list[Annotated[TextPart, BeforeValidator(_refuse_media)]], Field(min_length=1)]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class SystemMessage(StrictModel):
    """Instructions; ``developer`` is OpenAI's newer name of ``system``."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(StrictModel):
    """What a user says."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class FunctionCall(StrictModel):
    """Which function to call with what."""

    name: str
    arguments: str = Field(description="A JSON object, as text.")


class ToolCall(StrictModel):
    """A call that the assistant made earlier."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AssistantMessage(StrictModel):
    """What the model answered earlier."""

    role: Literal["assistant"]
    content: str | Annotated[list[AssistantPart], Field(min_length=1)] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning_content: str | None = Field(None, description="Given to templates that know it.")
    reasoning: str | None = Field(None, description="Newer name of reasoning_content.")
    annotations: Annotated[Any, Only(values=([],), instead="leave it out")] = None
    audio: Annotated[Any, Only(instead="this version knows text only")] = None
    function_call: Annotated[Any, Only(instead="use tool_calls")] = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise request_error("An assistant message needs content, tool_calls or a refusal.", param="content")
        return self


class ToolMessage(StrictModel):
    """What a tool answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class FunctionDefinition(StrictModel):
    """A function that the model may call."""

    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="JSON Schema of the arguments.")
    strict: bool | None = None


class Tool(StrictModel):
    """A tool that the model may use."""

    type: Literal["function"]
    function: FunctionDefinition


def template_messages(messages: list[Message]) -> list[dict[str, Any]]:
    """Return messages as ``ChatTemplate.render`` takes them: text content, and ``system`` for ``developer``."""
    return [_template_message(message) for message in messages]


def _template_message(message: Message) -> dict[str, Any]:
    seen = message.model_dump(
        include={"role", "name", "tool_call_id", "tool_calls", "reasoning_content"}, exclude_none=True
    )
    if message.role == "developer":
        seen["role"] = "system"
    if isinstance(message, AssistantMessage) and message.reasoning is not None:
        seen.setdefault("reasoning_content", message.reasoning)
    seen["content"] = _text(message)
    return seen


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None:
        return (message.refusal if isinstance(message, AssistantMessage) else None) or ""
    return "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in message.content)
