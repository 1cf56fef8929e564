"""``octavo validate``: every problem of a configuration of ``octavo serve``, without starting it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from octavo.cli.arguments import CheckedCommand, build_command, check_arguments
from octavo.cli.config_flags import CONFIG_OPTION, config_options, given_flags
from octavo.config.schema import ServerConfig
from octavo.config.sources import load_partial_config
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from octavo.doctor.findings import Findings, Severity

_PROBLEMS_OF_FLAGS = "octavo.cli.validate.problems"
_HEADINGS: Mapping[Severity, str] = {"error": "Errors", "warning": "Warnings", "not checked": "Not checked"}


class _CollectingCommand(CheckedCommand):
    """A command that keeps what is wrong with its flags for its report, and parses the others."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check the flags one by one, each with the values that follow it."""
        problems: list[str] = ctx.meta.setdefault(_PROBLEMS_OF_FLAGS, [])
        right: list[str] = []
        for part in _flag_by_flag(args):
            try:
                right += check_arguments(self, ctx, part)
            except ConfigError as error:
                problems += str(error).splitlines()
        return super().parse_args(ctx, right)


def make_command() -> Any:
    """Return the command."""
    plain = build_command("validate", validate, config_options(ServerConfig))
    return _CollectingCommand(
        plain.name,
        callback=plain.callback,
        params=plain.params,
        help=plain.help,
        context_settings=plain.context_settings,
        rich_markup_mode=None,
    )


def validate(
    ctx: typer.Context,
    target: str | None = typer.Argument(
        None, metavar="FILE|MODEL", help="YAML file (the same as --config), or model, as for serve.", show_default=False
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
    config: Path | None = CONFIG_OPTION,
    **flags: Any,
) -> int:
    """Check a configuration of octavo serve without starting it: settings, files, memory and address.

    Takes a YAML file, the arguments of octavo serve, or both, and reads the OCTAVO_* variables. Names every problem
    at once; the exit code is 1 if there are errors. Nothing is downloaded.
    """
    problems: list[str] = list(ctx.meta[_PROBLEMS_OF_FLAGS])
    file = Path(target) if target is not None and _is_file(target) else None
    if file is not None and config is not None and file != config:
        problems.append(f"two files are named: {file} and --config {config}; name one")
    try:
        given = given_flags(None if file is not None else target, flags)
    except ConfigError as error:
        problems.append(str(error))
        given = given_flags(None, flags)
    settings = load_partial_config(ServerConfig, given, config_file=file or config, environ=os.environ)
    from octavo.doctor.validation import validate as find_problems  # libraries that --help need not wait for

    findings = find_problems(settings, problems)
    typer.echo(_as_json(findings) if as_json else "\n".join(_as_text(findings)))
    return 1 if findings.of("error") else 0


def _is_file(target: str) -> bool:
    return target.endswith((".yaml", ".yml")) or Path(target).is_file()


def _flag_by_flag(args: Sequence[str]) -> Iterator[list[str]]:
    """Part arguments before each flag; what stands after a bare ``--`` stays together."""
    part: list[str] = []
    for i, argument in enumerate(args):
        if argument == "--":
            yield part
            yield list(args[i:])
            return
        if argument.startswith("--"):
            yield part
            part = []
        part.append(argument)
    yield part


def _as_json(findings: Findings) -> str:
    content: Mapping[str, object] = {
        "ok": not findings.of("error"),
        "findings": [
            {"severity": item.severity, "check": item.check, "message": item.message} for item in findings.items
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_text(findings: Findings) -> Iterator[str]:
    for severity, heading in _HEADINGS.items():
        if found := findings.of(severity):
            yield f"{heading}:"
            yield from (f"  {item.check}: {line}" for item in found for line in item.message.splitlines())
    yield _verdict(*(len(findings.of(severity)) for severity in _HEADINGS))


def _verdict(num_errors: int, num_warnings: int, num_not_checked: int) -> str:
    counts = f"{_plural(num_errors, 'error')}, {_plural(num_warnings, 'warning')}"
    if num_errors:
        return f"octavo serve would refuse this: {counts}."
    if num_not_checked:
        return f"Nothing wrong was found, but not everything could be checked: {counts}, {num_not_checked} not checked."
    return f"octavo serve can start with this: {counts}."


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
