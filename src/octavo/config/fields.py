"""What a setting is, read off the schema: its type, what is allowed, whether it is a list, a switch or a secret.

The command line makes its flags from this, and error messages say with it what would have been right.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from octavo.config.sizes import parse_bytes, parse_count

SECRET_FIELDS = frozenset({"api_key"})
JSON_FIELDS = frozenset({"lora_modules"})

_KINDS: Mapping[type, str] = {int: "a whole number", float: "a number", str: "a text"}
_METAVARS: Mapping[type, str] = {int: "INTEGER", float: "NUMBER", str: "TEXT"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of the schema.

    Attributes:
        allowed: what a value must be, in words that fit after "must be".
        metavar: a short word for a value, as in ``--port INTEGER``.
        choices: the only values allowed, if there is a fixed set of them.
        may_be_json: whether entries of a list may be JSON.
        keys: the settings inside of one that is an object.
    """

    name: str
    help: str
    default: object
    allowed: str
    metavar: str
    choices: tuple[str, ...]
    is_switch: bool
    is_list: bool
    is_secret: bool
    may_be_json: bool = False
    keys: tuple[Setting, ...] = ()

    @property
    def flag(self) -> str:
        """The setting's flag: ``--max-model-len``."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The setting's environment variable: ``OCTAVO_MAX_MODEL_LEN``."""
        return "OCTAVO_" + self.name.upper()


@cache
def settings_of(schema: type[BaseModel]) -> Mapping[str, Setting]:
    """Return the settings of a schema by name, in its order."""
    return {name: _setting(name, field) for name, field in schema.model_fields.items()}


def _setting(name: str, field: FieldInfo) -> Setting:
    base, metadata = _unwrap(field.annotation)
    metadata = [*field.metadata, *metadata]
    is_list = get_origin(base) is list
    choices = get_args(base) if get_origin(base) is Literal else ()
    allowed, metavar = _allowed_values(base, metadata, choices)
    return Setting(
        name=name,
        help=field.description or "",
        default=field.get_default(call_default_factory=True, validated_data={}),
        allowed=allowed,
        metavar=metavar,
        choices=choices,
        is_switch=base is bool,
        is_list=is_list,
        is_secret=name in SECRET_FIELDS,
        may_be_json=name in JSON_FIELDS,
        keys=tuple(settings_of(base).values()) if _is_object(base) else (),
    )


def _is_object(base: Any) -> bool:
    return isinstance(base, type) and issubclass(base, BaseModel)


def _allowed_values(base: Any, metadata: list[object], choices: tuple[str, ...]) -> tuple[str, str]:
    """Say what is allowed, and name a value: ``("a whole number from 0 to 65535", "INTEGER")``."""
    if choices:
        return "one of " + ", ".join(choices), "|".join(choices)
    if base is bool:
        return "true or false", "BOOL"
    if get_origin(base) is list:
        return "texts", "TEXT..."
    if _is_object(base):
        return "a JSON object with keys " + ", ".join(settings_of(base)), "JSON"
    validators = {item.func for item in metadata if isinstance(item, BeforeValidator)}
    bounds = _describe_bounds(metadata)
    if parse_bytes in validators:
        return f"a size in bytes{bounds}, as a whole number or like 512MiB or 4GiB", "SIZE"
    if parse_count in validators:
        return f"a whole number{bounds}, also written like 8k (8,000) or 8K (8,192)", "COUNT"
    return _KINDS[base] + bounds, _METAVARS[base]


def _describe_bounds(metadata: list[object]) -> str:
    low: str | None = None
    high: str | None = None
    for bound in _flatten(metadata):
        match bound:
            case annotated_types.Ge(ge):
                low = f"at least {ge}"
            case annotated_types.Gt(gt):
                low = f"above {gt}"
            case annotated_types.Le(le):
                high = f"at most {le}"
            case annotated_types.Lt(lt):
                high = f"below {lt}"
    return "".join(f" {words}" for words in [" and ".join(part for part in (low, high) if part)] if words)


def _flatten(metadata: Iterable[object]) -> Iterator[object]:
    """Yield metadata, and that of ``Field(...)`` objects inside ``Annotated``."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item


def _unwrap(annotation: Any) -> tuple[Any, list[object]]:
    """Take ``Annotated`` and ``| None`` off a type: ``Annotated[int, x] | None`` gives ``(int, [x])``."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        base, deeper = _unwrap(inner)
        return base, [*metadata, *deeper]
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        return _unwrap(inner[0])
    return annotation, []
