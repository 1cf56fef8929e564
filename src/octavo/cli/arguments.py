"""How arguments are read: vLLM's spellings, and one clear line for each flag that is wrong.

Names are checked here, before typer parses, so that all unknown flags are named at once and with their nearest valid
name. Values are the business of ``octavo.config``: to this module they are text.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import typer
from typer.core import TyperCommand

from octavo.errors import ConfigError


def _with_dashes(name: str) -> str:
    return name.replace("_", "-")


CONTEXT_SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": _with_dashes,
    "max_content_width": 100,
}


class CheckedCommand(TyperCommand):
    """A command whose flags are checked by name, with dashes or underscores, before they are parsed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check, then parse; while a shell completes a word there is nothing to check yet."""
        return super().parse_args(ctx, args if ctx.resilient_parsing else check_arguments(self, ctx, args))


def build_command(name: str, function: Callable[..., Any], flags: Sequence[inspect.Parameter] = ()) -> Any:
    """Make a typer command of a function.

    Args:
        flags: what the ``**flags`` of the function stand for: options that were generated from a schema.
    """
    own = inspect.signature(function, eval_str=True).parameters.values()
    named = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]

    def command(**values: Any) -> Any:
        return function(**values)

    command.__doc__ = function.__doc__
    cast(Any, command).__signature__ = inspect.Signature([*named, *flags])
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, cls=CheckedCommand, context_settings=CONTEXT_SETTINGS)(command)
    return typer.main.get_command(app)


def check_arguments(command: Any, ctx: Any, args: Sequence[str]) -> list[str]:
    """Check the flags among arguments and write them in the one way that typer reads.

    ``--served_model_name a b`` becomes ``--served-model-name a --served-model-name b``, as vLLM reads it.

    Raises:
        ConfigError: with one line for each flag that does not exist, lacks a value, or has one that it does not take.
    """
    options = {
        name: param
        for param in command.get_params(ctx)
        if param.param_type_name == "option"
        for name in (*param.opts, *param.secondary_opts)
    }
    rest = deque(args)
    checked: list[str] = []
    problems: list[str] = []
    while rest:
        argument = rest.popleft()
        if argument == "--" or not (argument.startswith("-") or command.allow_interspersed_args):
            checked += [argument, *rest]
            break
        if not argument.startswith("--"):
            checked.append(argument)
            continue
        typed_name, has_value, value = argument.partition("=")
        name = _with_dashes(typed_name)
        option = options.get(name)
        if option is None:
            problems.append(_explain_flag(typed_name, [known for known in options if known.startswith("--")]))
        elif option.is_flag:
            checked.append(name)
            if has_value:
                problems.append(f"flag {name} takes no value, and got {value!r}")
        elif has_value:
            checked += [name, value]
        else:
            values = _take_values(rest, all_of_them=option.multiple)
            checked += [part for value in values for part in (name, value)]
            if not values:
                problems.append(f"flag {name} needs a value")
    if problems:
        raise ConfigError("\n".join(problems))
    return checked


def _take_values(rest: deque[str], *, all_of_them: bool) -> list[str]:
    values: list[str] = []
    while rest and not rest[0].startswith("--") and (all_of_them or not values):
        values.append(rest.popleft())
    return values


def unknown_command(typed_name: str, known: list[str]) -> ConfigError:
    """Return the error that says that there is no such command, and which one was probably meant."""
    from octavo.config.names import explain_unknown  # octavo.config imports pydantic, and only errors need it here

    return ConfigError(f"{explain_unknown(typed_name, known)} (commands: {', '.join(known)})")


def _explain_flag(typed_name: str, known: list[str]) -> str:
    from octavo.config.names import explain_unknown  # as above

    return explain_unknown(typed_name.removeprefix("--").replace("-", "_"), known, shown_as=typed_name)
