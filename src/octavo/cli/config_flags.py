"""Flags made from the settings, so that a setting is written once: in the schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import typer

from octavo.config.fields import Setting, settings_of
from octavo.config.schema import EngineConfig
from octavo.config.sizes import format_bytes
from octavo.errors import ConfigError

_SIZE_METAVAR = "SIZE"
_KEY_SEPARATOR = "__"


MODEL_ARGUMENT = typer.Argument(None, metavar="MODEL", help="The model; the same as --model.", show_default=False)
CONFIG_OPTION = typer.Option(
    None, "--config", metavar="FILE", help="YAML file with settings; flags and OCTAVO_* variables go before it."
)


def config_options(schema: type[EngineConfig]) -> list[inspect.Parameter]:
    """Return one flag for each setting of a schema, under vLLM's spelling; for keys of an object, dotted ones too."""
    settings = settings_of(schema).values()
    return [_option(setting) for setting in settings] + [
        _key_option(setting, key) for setting in settings for key in setting.keys
    ]


def given_flags(model: str | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that were given, the model that was named as an argument among them.

    Raises:
        ConfigError: two different models are named, or an object is given as a whole and in parts.
    """
    given = {name: value for name, value in flags.items() if value is not None and _KEY_SEPARATOR not in name}
    for name, value in flags.items():
        setting, is_key, key = name.partition(_KEY_SEPARATOR)
        if is_key and value is not None:
            if not isinstance(given.setdefault(setting, {}), dict):
                flag = "--" + setting.replace("_", "-")
                raise ConfigError(f"{flag} and {flag}.{key} are given; give all keys in one way")
            given[setting][key] = value
    if model is not None:
        if given.get("model", model) != model:
            raise ConfigError(f"two models are named: {model} and --model {given['model']}; name one")
        given["model"] = model
    return given


def as_arguments(given: Mapping[str, Any]) -> list[str]:
    """Write flags back as arguments of a command line."""
    arguments: list[str] = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, dict):
            arguments += [f"{flag}.{key}={part}" for key, part in value.items()]
        else:
            arguments += [f"{flag}={part}" for part in (value if isinstance(value, list) else [value])]
    return arguments


def _option(setting: Setting) -> inspect.Parameter:
    if setting.is_switch:
        names = f"{setting.flag}/{setting.flag.replace('--', '--no-', 1)}"
        return _parameter(setting.name, typer.Option(None, names, help=_help(setting)), bool | None)
    option = typer.Option(
        None,
        setting.flag,
        metavar=setting.metavar,
        help=_help(setting),
        autocompletion=_completer(setting.choices) if setting.choices else None,
    )
    return _parameter(setting.name, option, list[str] | None if setting.is_list else str | None)


def _key_option(setting: Setting, key: Setting) -> inspect.Parameter:
    option = typer.Option(
        None, f"{setting.flag}.{key.name.replace('_', '-')}", metavar=key.metavar, help=_help(key), hidden=True
    )
    return _parameter(setting.name + _KEY_SEPARATOR + key.name, option, str | None)


def _help(setting: Setting) -> str:
    default = setting.default
    if default is None or default == []:
        return setting.help
    if setting.metavar == _SIZE_METAVAR and isinstance(default, int):
        return f"{setting.help} [default: {format_bytes(default)}]"
    if isinstance(default, bool):
        return f"{setting.help} [default: {'on' if default else 'off'}]"
    return f"{setting.help} [default: {default}]"


def _completer(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def _parameter(name: str, option: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)
