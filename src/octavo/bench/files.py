"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from octavo.errors import ConfigError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it.

    Raises:
        ConfigError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def check_targets(*paths: Path | None) -> None:
    """Refuse places where no file can be written, before the work is done whose result belongs there.

    Raises:
        ConfigError: a path is a directory, or its directory does not exist or cannot be written to.
    """
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise ConfigError(f"{path} is a directory; name a file")
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: there is no directory {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise ConfigError(f"{path}: the directory {path.parent} cannot be written to")
