"""Chat messages to prompt text, by the model's own Jinja template."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from octavo.errors import ConfigError, ModelError, RequestError
from octavo.text.chat_messages import normalise_messages
from octavo.text.template_environment import MAX_RENDERED_CHARS, TemplateEnvironment


class ChatTemplate:
    """A compiled chat template; rendering is safe from several threads.

    Args:
        source: the template's text.
        bos_token, eos_token: what the template knows by these names; None leaves them undefined.
        special_tokens: further names for the template, such as ``pad_token``.
        tools_source: a template to use instead when tools are offered, if the model has one.
        origin: where the template is from, for error messages.

    Raises:
        ModelError: the template's syntax is wrong; the message names the line.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        special_tokens: Mapping[str, str] | None = None,
        tools_source: str | None = None,
        origin: str = "the chat template",
    ) -> None:
        self.source = source
        self.tools_source = source if tools_source is None else tools_source
        named = {**(special_tokens or {}), "bos_token": bos_token, "eos_token": eos_token}
        self._special_tokens = {name: token for name, token in named.items() if token is not None}
        try:
            self._template = _compile(source)
            self._tools_template = self._template if tools_source is None else _compile(tools_source)
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(_syntax_message(origin, error)) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **extra: Any,
    ) -> str:
        """Return the prompt for a conversation.

        Args:
            messages: OpenAI's messages; see ``normalise_messages``.
            tools: OpenAI's tools (``{"type": "function", "function": {…}}``).
            add_generation_prompt: end with the start of the assistant's next message.
            continue_final_message: end with the final message left open, so that the model goes on with it.
            extra: further variables for the template (``chat_template_kwargs``).

        Raises:
            RequestError: the messages are not what the template takes; the message is the template's own.
        """
        if continue_final_message and add_generation_prompt:
            raise RequestError(
                "continue_final_message and add_generation_prompt exclude each other: set one of them to false",
                param="continue_final_message",
            )
        conversation = normalise_messages(messages)
        if not conversation:
            raise RequestError("messages is empty: give at least one message", param="messages")
        variables = {
            "documents": None,
            **self._special_tokens,
            **extra,
            "tools": list(tools) if tools else None,
            "add_generation_prompt": add_generation_prompt,
        }
        template = self._tools_template if tools else self._template
        if continue_final_message:
            return _render_open(template, conversation, variables)
        return _render(template, conversation, variables)


def load_chat_template(value: str) -> str:
    """Return the source of the template that ``--chat-template`` names: a file's path, or the template itself.

    Raises:
        ConfigError: it is neither, the file cannot be read, or the template's syntax is wrong.
    """
    if "{{" in value or "{%" in value:
        source, origin = value, "--chat-template"
    else:
        source, origin = _read_template(Path(value)), f"--chat-template {value}"
    try:
        _compile(source)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(_syntax_message(origin, error)) from error
    return source


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"--chat-template {path}: there is no such file, and it is not a template itself (those contain '{{{{' or "
            "'{%'): give the path of a Jinja file or the template's text"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"--chat-template {path} cannot be read: {error}") from error


@cache
def _environment() -> TemplateEnvironment:
    return TemplateEnvironment()


def _compile(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def _syntax_message(origin: str, error: jinja2.TemplateSyntaxError) -> str:
    return f"{origin} is not a valid Jinja template: line {error.lineno}: {error.message}"


def _render(template: jinja2.Template, conversation: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
    parts: list[str] = []
    num_chars = 0
    try:
        for part in template.generate({**variables, "messages": conversation}):
            parts.append(part)
            num_chars += len(part)
            if num_chars > MAX_RENDERED_CHARS:
                break
    except Exception as error:
        # A template is foreign code that can fail in any way, and what it fails on is what the request gave it.
        reason = str(error) or type(error).__name__
        raise RequestError(f"the chat template refused these messages: {reason}", param="messages") from error
    if num_chars > MAX_RENDERED_CHARS:
        raise RequestError(
            f"the chat template makes more than {MAX_RENDERED_CHARS} characters of these messages: shorten them",
            param="messages",
        )
    return "".join(parts)


def _render_open(template: jinja2.Template, conversation: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
    """Render up to the end of the final message's content, which a marker finds again in the text."""
    marker = f"end-of-final-message-{uuid.uuid4().hex}"
    content = conversation[-1]["content"]
    conversation[-1]["content"] = f"{content}{marker} "
    text = _render(template, conversation, variables)
    place = text.rfind(marker)
    if place < 0 or content.strip() not in text[:place]:
        raise RequestError(
            "continue_final_message cannot be met: the chat template changes or leaves out the final message",
            param="continue_final_message",
        )
    is_trimmed = not text.startswith(" ", place + len(marker))
    return text[:place].rstrip() if is_trimmed else text[:place]
