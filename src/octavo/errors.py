"""The errors that users can see.

Every message says what was wrong, with the value, and what to do next. The HTTP floor turns them into OpenAI's error
shape, the command line into one line and an exit code; nothing else in the package decides how an error looks.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OctavoError(Exception):
    """Base of everything that a user can cause or must be told."""


class ConfigError(OctavoError):
    """A setting (flag, environment variable, YAML key, argument) is wrong or cannot be met on this machine."""


class ModelError(OctavoError):
    """A model cannot be found, is not supported, or its files are broken."""


class RequestError(OctavoError):
    """One request is wrong; it is refused and nothing else is affected.

    Attributes:
        param: the request field at fault, if one is.
        code: a short machine-readable name (OpenAI's ``error.code``), if there is one.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnknownModelError(RequestError):
    """The request names a model that this server does not serve."""


class QueueFullError(OctavoError):
    """The server holds as many waiting requests as ``max_num_queued_reqs`` allows."""


class EngineDeadError(OctavoError):
    """The engine process ended; the message carries the cause."""


def nearest_name(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that is most like ``name``, or None if none is near."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return matches[0] if matches else None
