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


MODEL_ARGUMENT = typer.Argument(None, metavar="MODEL", help="The model; the same as --model.", show_default=False)
CONFIG_OPTION = typer.Option(
    None, "--config", metavar="FILE", help="YAML file with settings; flags and OCTAVO_* variables go before it."
)


def config_options(schema: type[EngineConfig]) -> list[inspect.Parameter]:
    """Return one flag for each setting of a schema, under vLLM's spelling."""
    return [_option(setting) for setting in settings_of(schema).values()]


def given_flags(model: str | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that were given, the model that was named as an argument among them.

    Raises:
        ConfigError: two different models are named.
    """
    given = {name: value for name, value in flags.items() if value is not None}
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
