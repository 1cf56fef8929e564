"""The values of ``--lora-modules``: ``name=path``, or JSON with ``name``, ``path`` and perhaps ``base_model_name``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LoraModule:
    """A LoRA adapter that is served from the start.

    Attributes:
        base_model_name: what ``/v1/models`` names as its parent, if not the served model.
    """

    name: str
    path: str
    base_model_name: str | None = None


def parse_lora_modules(values: list[str]) -> list[LoraModule]:
    """Read the values in either form; JSON may be one object or a list of them.

    Raises:
        ValueError: a value is neither, or two adapters have the same name.
    """
    modules = [module for value in values for module in _parse(value.strip())]
    names = [module.name for module in modules]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two adapters are named {name!r}")
    return modules


def _parse(value: str) -> list[LoraModule]:
    if value.startswith(("{", "[")):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{value!r} is not JSON ({error})") from None
        return [_from_object(item, value) for item in (parsed if isinstance(parsed, list) else [parsed])]
    name, has_path, path = value.partition("=")
    if not (name and has_path and path):
        raise ValueError(f'{value!r} is not right; write name=path or {{"name": "…", "path": "…"}}')
    return [LoraModule(name, path)]


def _from_object(item: Any, value: str) -> LoraModule:
    allowed = ("name", "path", "base_model_name")
    is_right = (
        isinstance(item, dict)
        and set(item) <= set(allowed)
        and all(isinstance(part, str) and part for part in item.values())
        and {"name", "path"} <= set(item)
    )
    if not is_right:
        raise ValueError(f"{value!r} is not right; an adapter has name, path and perhaps base_model_name, all texts")
    return LoraModule(**item)
