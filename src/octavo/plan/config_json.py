"""The fields of a ``config.json`` under all the names that families gave them, with clear errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.errors import ModelError


class ConfigJson:
    """Typed access to the fields of one JSON object; a null counts as absent.

    Args:
        values: the object.
        source: what messages call it, e.g. ``/models/llama/config.json``.
        defaults: what absent fields mean.
    """

    def __init__(self, values: Mapping[str, Any], source: str, defaults: Mapping[str, Any] | None = None) -> None:
        given = {name: value for name, value in values.items() if value is not None}
        self._values = {**(defaults or {}), **given}
        self._given = values
        self.source = source

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str) -> Any:
        """Return the value as JSON gave it, None if absent."""
        return self._values.get(name)

    def is_null(self, name: str) -> bool:
        """Return whether the field is there and null."""
        return name in self._given and self._given[name] is None

    def integer(self, *names: str, default: int | None = None, minimum: int = 1) -> int:
        """Return the first field of these names that is there; one is required if there is no default.

        Raises:
            ModelError: none is there, or it is no integer of at least ``minimum``.
        """
        name = next((name for name in names if name in self._values), None)
        if name is None:
            if default is None:
                raise ModelError(f"{self.source}: field {names[0]!r} is missing.")
            return default
        value = self._values[name]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ModelError(f"{self.source}: field {name!r} is {value!r}; it must be an integer of {minimum} or more.")
        return value

    def boolean(self, name: str, default: bool = False) -> bool:
        """Return a true/false field."""
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise ModelError(f"{self.source}: field {name!r} is {value!r}; it must be true or false.")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """Return a list of integers; empty if it is absent."""
        value = self._values.get(name, [])
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise ModelError(f"{self.source}: field {name!r} is {value!r}; it must be a list of integers.")
        return tuple(value)

    def section(self, name: str) -> ConfigJson:
        """Return a nested object, an empty one if it is absent."""
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            raise ModelError(f"{self.source}: field {name!r} is {value!r}; it must be an object.")
        return ConfigJson(value, f"{self.source}, {name}")
