"""Options whose values are counts (``4k``) or sizes (``2GiB``), written as the settings of an engine are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from octavo.config.sizes import parse_bytes, parse_count


def count_option(help_text: str, *, minimum: int = 1) -> Any:
    """Return an option for a whole number, also written like 8k (8,000) or 8K (8,192); None if it is left out."""
    parser = _reader(parse_count, minimum)
    return typer.Option(None, parser=parser, metavar="COUNT", help=help_text, show_default=False)


def size_option(help_text: str) -> Any:
    """Return an option for a size in bytes, also written like 512MiB; None if it is left out."""
    return typer.Option(None, parser=_reader(parse_bytes, 1), metavar="SIZE", help=help_text, show_default=False)


def _reader(parse: Callable[[object], object], minimum: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(str(parse(text)))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        if number < minimum:
            raise typer.BadParameter(f"{text!r} is less than {minimum}")
        return number

    return read
