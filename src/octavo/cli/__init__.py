"""The command line: one module a command; each parses, calls and prints, and decides nothing.

This module must stay light: ``octavo --help`` imports it, and so do the shells when they complete a word.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from octavo.cli.app import make_app
from octavo.errors import ConfigError, ModelError, OctavoError, RequestError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None, prog_name: str = "octavo") -> int:
    """Run one command and return the exit code of the process.

    0 is success; 1 a failure while running; 2 a wrong flag, setting, model or request; 130 an interrupt (Ctrl-C).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = make_app().main(given or ["--help"], prog_name=prog_name, standalone_mode=False)
    except (ConfigError, ModelError, RequestError) as error:
        return _report(str(error), EXIT_USAGE)
    except OctavoError as error:
        return _report(str(error), EXIT_FAILURE)
    except typer.TyperException as error:
        return _report(error.format_message(), EXIT_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`octavo … | head`); Python must not complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    return result if isinstance(result, int) else 0


def _report(message: str, exit_code: int) -> int:
    for line in message.splitlines():
        typer.echo(f"octavo: error: {line}", err=True)
    return exit_code
