"""What every log line of a request says about it without being told: its id, and its trace and span if it has any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_EMPTY: Mapping[str, str] = {}
_fields: ContextVar[Mapping[str, str]] = ContextVar("octavo_log_fields", default=_EMPTY)


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Add fields to all records that are logged in this context and in the tasks that are started in it."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def log_fields() -> Mapping[str, str]:
    """Return the fields of the present context, like ``{"request_id": "…"}``."""
    return _fields.get()
