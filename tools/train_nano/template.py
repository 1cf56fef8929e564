"""Rendering conversations with the chat template that is shipped beside the model."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tools.train_nano.sample import Message, Tool

SOURCE = (Path(__file__).parent / "chat_template.jinja").read_text().rstrip("\n")
"""The template itself."""


def _tojson(value: Any) -> str:
    """JSON as Hugging Face templates expect it: keys in their order, no HTML escapes, text beyond ASCII as it is."""
    return json.dumps(value, ensure_ascii=False)


@cache
def _template() -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _tojson
    return environment.from_string(SOURCE)


def render(messages: list[Message], tools: list[Tool], add_generation_prompt: bool = False) -> str:
    """The text a model reads for `messages` when `tools` are offered."""
    return _template().render(messages=messages, tools=tools or None, add_generation_prompt=add_generation_prompt)
