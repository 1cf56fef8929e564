"""The field ``tool_choice`` of a chat request: whether the model may, must or must not call tools, and which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from octavo.api.fields import StrictModel, request_error
from octavo.api.openai.messages import Tool

_MODES = ("none", "auto", "required")


class ChosenFunction(StrictModel):
    """The function that must be called."""

    name: str


class NamedToolChoice(StrictModel):
    """The tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


def _refuse_other_choices(choice: Any) -> Any:
    is_named = isinstance(choice, dict) and choice.get("type") == "function"
    if choice is not None and choice not in _MODES and not is_named:
        raise request_error(
            f"tool_choice={choice!r:.80} is not supported: use 'none', 'auto', 'required' or "
            '{"type": "function", "function": {"name": …}}.',
            code="unsupported_value",
            kind="not_supported",
        )
    return choice


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedToolChoice | None, BeforeValidator(_refuse_other_choices)
]


def demands_call(choice: str | NamedToolChoice | None) -> bool:
    """Whether the model must call a tool."""
    return choice not in (None, "none", "auto")


def check_tool_choice(choice: str | NamedToolChoice | None, tools: Sequence[Tool]) -> None:
    """Refuse a choice that the tools do not allow.

    Raises:
        PydanticCustomError: tools must be called but there are none, or not the one that is named.
    """
    if not demands_call(choice):
        return
    names = [tool.function.name for tool in tools]
    if not names:
        raise request_error("tool_choice needs tools to choose from: send tools with it.", param="tool_choice")
    if isinstance(choice, NamedToolChoice) and choice.function.name not in names:
        listed = ", ".join(repr(name) for name in names)
        raise request_error(
            f"tool_choice names {choice.function.name!r}, which is not among the tools: {listed}.", param="tool_choice"
        )
