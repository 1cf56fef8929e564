"""Where settings come from: flags, then the environment, then a YAML file, then the defaults of the schema.

Whatever is wrong is said in one ``ConfigError``, one line a problem: where the value came from, the value, what is
allowed, and the nearest valid name. Values of secrets are never repeated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pydantic
import yaml

from octavo.config.fields import Setting, settings_of
from octavo.config.names import explain_unknown
from octavo.config.schema import NOT_SUPPORTED, EngineConfig, ServerConfig
from octavo.errors import ConfigError, nearest_name

ConfigT = TypeVar("ConfigT", bound=EngineConfig)

_PREFIX = "OCTAVO_"
# Variables of vLLM for what is a setting here.
_VLLM_VARIABLES = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "enable_runtime_lora_updating",
    "VLLM_BATCH_INVARIANT": "batch_invariant",
}
# Not settings: the native kernels read these themselves.
_OF_KERNELS = frozenset({"OCTAVO_CPU_ISA"})
# Kubernetes tells every container about a service named "octavo" in variables of these names.
_SERVICE_LINK = re.compile(r"OCTAVO_(SERVICE_(HOST|PORT).*|PORT_\d+_(TCP|UDP)(_.*)?)")


@dataclass(frozen=True, slots=True)
class Given:
    """A value, and in words where it came from: ``flag --port``, ``variable OCTAVO_PORT``, ``key port in my.yaml``."""

    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class PartialConfig(Generic[ConfigT]):
    """What could be made of settings of which some may be wrong.

    Attributes:
        config: the values that are right, and defaults for the others.
        problems: one line for each problem; empty if all is right.
        wrong: names of the settings whose values could not be taken.
    """

    config: ConfigT
    problems: tuple[str, ...]
    wrong: frozenset[str]


def load_config(
    schema: type[ConfigT], flags: Mapping[str, Any], *, config_file: Path | None, environ: Mapping[str, str]
) -> ConfigT:
    """Put a configuration together. A flag goes before the environment, which goes before the file.

    Args:
        schema: the part of the settings that is wanted; settings that only ``ServerConfig`` has are passed over in the
            environment and the file when an ``EngineConfig`` is wanted.
        flags: values of the flags that were given, by the name of the field.
        config_file: YAML file with a mapping at its top; keys with dashes or underscores.
        environ: environment variables, ``OCTAVO_<FIELD>``; lists with commas. An empty variable counts as not set.

    Raises:
        ConfigError: with one line for each problem.
    """
    return _whole(load_partial_config(schema, flags, config_file=config_file, environ=environ))


def load_partial_config(
    schema: type[ConfigT], flags: Mapping[str, Any], *, config_file: Path | None, environ: Mapping[str, str]
) -> PartialConfig[ConfigT]:
    """Do what ``load_config`` does with the values that are right, and tell of the others instead of raising."""
    problems: list[str] = []
    given: dict[str, Given] = {}
    if config_file is not None:
        try:
            given.update(_from_file(config_file, problems))
        except ConfigError as error:
            problems.append(str(error))
    given.update(_from_environment(environ, problems))
    given.update({name: Given(value, f"flag {_flag_as_typed(name, value)}") for name, value in flags.items()})
    return _build(schema, {name: item for name, item in given.items() if name in schema.model_fields}, problems)


def make_engine_config(**arguments: Any) -> EngineConfig:
    """Make the configuration of an engine from arguments of the Python API.

    Raises:
        ConfigError: with one line for each unknown name and each wrong value.
    """
    problems: list[str] = []
    given: dict[str, Given] = {}
    for name, value in arguments.items():
        if name in EngineConfig.model_fields:
            given[name] = Given(value, f"argument {name}")
        else:
            problems.append(f"argument {name}: {explain_unknown(name, list(EngineConfig.model_fields))}")
    return _whole(_build(EngineConfig, given, problems))


def validation_message(
    error: pydantic.ValidationError, schema: type[EngineConfig], given: Mapping[str, Given]
) -> list[str]:
    """Turn pydantic's error into one line a problem, in the words of this module."""
    settings = settings_of(schema)
    lines: dict[str, None] = {}
    for detail in error.errors(include_url=False, include_context=False):
        name = str(detail["loc"][0]) if detail["loc"] else None
        if name is None or name not in settings:
            lines[detail["msg"].removeprefix("Value error, ")] = None
        else:
            origin = given[name].origin if name in given else f"setting {name}"
            explained = (
                detail["msg"] if detail["type"] == NOT_SUPPORTED else _explain_value(settings[name], detail["input"])
            )
            lines[f"{origin}: {explained}"] = None
    return list(lines)


def _whole(partial: PartialConfig[ConfigT]) -> ConfigT:
    if partial.problems:
        # Never chained: pydantic's own message repeats the values, secrets included.
        raise ConfigError("\n".join(partial.problems)) from None
    return partial.config


def _build(schema: type[ConfigT], given: Mapping[str, Given], problems: list[str]) -> PartialConfig[ConfigT]:
    right = {name: item.value for name, item in given.items()}
    found: list[str] = []
    while True:
        try:
            config = schema.model_validate(right)
        except pydantic.ValidationError as error:
            if not right:
                raise  # the defaults themselves
            # What is said after the first round may come from a default that stands in for a wrong value.
            found = found or validation_message(error, schema, given)
            at_fault = {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
            right = {name: value for name, value in right.items() if at_fault and name not in at_fault}
        else:
            return PartialConfig(config, (*problems, *found), frozenset(given.keys() - right.keys()))


def _explain_value(setting: Setting, value: object) -> str:
    if setting.is_secret:
        return f"the value (not shown) is not right; it must be {setting.allowed}"
    message = f"{value!r} is not right; it must be {setting.allowed}"
    near = nearest_name(str(value), setting.choices)
    return f"{message}; did you mean {near}?" if near else message


def _flag_as_typed(name: str, value: object) -> str:
    dashed = name.replace("_", "-")
    return f"--no-{dashed}" if value is False else f"--{dashed}"


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[tuple[str, Given]]:
    settings = {setting.variable: setting for setting in settings_of(ServerConfig).values()}
    for variable, name in _VLLM_VARIABLES.items():
        if environ.get(variable):
            yield name, Given(environ[variable], f"variable {variable}")
    for variable, text in sorted(environ.items()):
        is_ours = variable.startswith(_PREFIX) and variable not in _OF_KERNELS
        if not is_ours or not text or _is_service_link(variable, text):
            continue
        if variable not in settings:
            name = variable.removeprefix(_PREFIX).lower()
            problems.append(f"variable {variable}: {explain_unknown(name, list(settings), shown_as=variable)}")
            continue
        setting = settings[variable]
        try:
            value = _split_list(text, may_be_json=setting.may_be_json) if setting.is_list else text
        except ValueError as error:
            problems.append(f"variable {variable}: {error}")
            continue
        yield setting.name, Given(value, f"variable {variable}")


def _split_list(text: str, *, may_be_json: bool) -> list[str]:
    """Split the value of a variable at its commas, but not at those of JSON objects and lists if there may be any.

    Raises:
        ValueError: what begins like JSON is none, or something else than a comma follows it.
    """
    parts: list[str] = []
    rest = text.lstrip()
    while rest:
        if may_be_json and rest.startswith(("{", "[")):
            part, rest = _take_json(rest)
        else:
            part, _, rest = rest.partition(",")
        parts.append(part.strip())
        rest = rest.lstrip()
    return [part for part in parts if part]


def _take_json(text: str) -> tuple[str, str]:
    """Return the JSON at the beginning of a text, and what follows the comma behind it."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{text!r} is not JSON ({error})") from None
    value, rest = text[:end], text[end:].lstrip()
    if rest and not rest.startswith(","):
        raise ValueError(f"{rest!r} follows the JSON {value}; put a comma between values")
    return value, rest.removeprefix(",")


def _is_service_link(variable: str, text: str) -> bool:
    return _SERVICE_LINK.fullmatch(variable) is not None or (variable == "OCTAVO_PORT" and "://" in text)


def _from_file(path: Path, problems: list[str]) -> Iterator[tuple[str, Given]]:
    settings = settings_of(ServerConfig)
    seen: set[str] = set()
    for key, value in _read_yaml(path).items():
        name = str(key).replace("-", "_")
        origin = f"key {key} in {path}"
        if name not in settings:
            valid = [valid.replace("_", "-") if "-" in str(key) else valid for valid in settings]
            problems.append(f"{origin}: {explain_unknown(name, valid, shown_as=str(key))}")
        elif name in seen:
            problems.append(f"{origin}: the same setting stands there twice, with dashes and with underscores")
        elif value is not None:
            seen.add(name)
            yield name, Given([value] if settings[name].is_list and isinstance(value, str) else value, origin)


def _read_yaml(path: Path) -> Mapping[object, object]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration file {path}: it is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"configuration file {path}{where}: {reason}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file {path}: it must be a mapping of settings, like 'max-model-len: 4096'")
    return content
