"""Typed access to the fields of a ``config.json``: every wrong value becomes one clear ModelError."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo.errors import ModelError


class ConfigFields:
    """The fields of one JSON object, read one at a time by name and type.

    A null counts as absent, except where a method says otherwise.

    Attributes:
        source: what messages call the object, e.g. ``/models/llama/config.json`` or ``…, rope_scaling``.
    """

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self._values = values
        self.source = source

    @classmethod
    def from_file(cls, path: Path) -> ConfigFields:
        """Read a JSON file that holds one object.

        Raises:
            ModelError: the file is missing, is no JSON, or holds something else than an object.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(f"{path} does not exist. A model directory needs a config.json.") from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(values, dict):
            raise ModelError(f"{path} must hold a JSON object, not a {type(values).__name__}.")
        return cls(values, str(path))

    def with_defaults(self, defaults: Mapping[str, Any]) -> ConfigFields:
        """Return the same fields with values for those that are not there; a null stays a null."""
        return ConfigFields({**defaults, **self._values}, self.source)

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def raw(self, name: str) -> Any:
        """Return the value as JSON gave it, None if absent."""
        return self._values.get(name)

    def names(self) -> list[str]:
        """Return the names of the fields that are set."""
        return [name for name, value in self._values.items() if value is not None]

    def error(self, name: str, expected: str) -> ModelError:
        """Return the error for a field whose value is not what was ``expected``."""
        if name not in self:
            return ModelError(f"{self.source}: field {name!r} is missing; it must be {expected}.")
        return ModelError(f"{self.source}: field {name!r} is {self._values[name]!r}; it must be {expected}.")

    def integer(self, name: str, default: int | None = None, *, minimum: int = 1) -> int:
        """Return an integer field of at least ``minimum``; it is required if there is no default."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self.error(name, f"an integer of at least {minimum}")
        return value

    def optional_integer(self, name: str, *, absent: int | None = None) -> int | None:
        """Return a positive integer field; None if it is null, ``absent`` if it is not there."""
        if name in self:
            return self.integer(name)
        return None if name in self._values else absent

    def number(self, name: str, default: float | None = None, *, minimum: float = 0.0) -> float:
        """Return a finite number of at least ``minimum``; it is required if there is no default."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not minimum <= value < math.inf:
            raise self.error(name, f"a number of at least {minimum:g}")
        return float(value)

    def optional_number(self, name: str, *, absent: float | None = None, minimum: float = 0.0) -> float | None:
        """Return a number field of at least ``minimum``; None if it is null, ``absent`` if it is not there."""
        if name in self:
            return self.number(name, minimum=minimum)
        return None if name in self._values else absent

    def integers(self, name: str) -> tuple[int, ...]:
        """Return a list of integers of at least 0; empty if it is absent."""
        values = self._values.get(name)
        if values is None:
            return ()
        if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
            raise self.error(name, "a list of integers of at least 0")
        return tuple(values)

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """Return a list of ``count`` finite numbers above 0."""
        values = self._values.get(name)
        if (
            not isinstance(values, list)
            or len(values) != count
            or not all(isinstance(value, int | float) and 0 < value < math.inf for value in values)
        ):
            raise self.error(name, f"a list of {count} numbers above 0")
        return tuple(map(float, values))

    def require(self, name: str, *allowed: Any) -> None:
        """Refuse a field that is set to anything that is not ``allowed``, of which the first is what absence means."""
        value = self._values.get(name)
        if value is not None and value not in allowed:
            raise self.error(name, f"{' or '.join(json.dumps(one) for one in allowed)}: nothing else is supported")

    def boolean(self, name: str, default: bool) -> bool:
        """Return a true/false field."""
        value = self._values.get(name, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def choice(self, name: str, allowed: Mapping[str, str], default: str | None = None) -> str:
        """Return what ``allowed`` maps the string to; the field is required if there is no default."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or value not in allowed:
            raise self.error(name, f"one of {', '.join(allowed)}")
        return allowed[value]

    def token_ids(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return a field that holds one token id or a list of them; nothing if it is null."""
        value = self._values.get(name, default)
        if value is None:
            return ()
        ids = value if isinstance(value, (list, tuple)) else (value,)
        if not all(isinstance(token_id, int) and not isinstance(token_id, bool) for token_id in ids):
            raise self.error(name, "a token id or a list of token ids")
        return tuple(ids)

    def section(self, name: str) -> ConfigFields | None:
        """Return a nested object, None if absent or empty."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.error(name, "an object")
        return ConfigFields(value, f"{self.source}, {name}") if value else None
