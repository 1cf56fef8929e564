"""Memory of a process that starts: what it makes stays, so no garbage is looked for; what it frees is given back."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import modules and make objects that stay: the collector looks for garbage among them neither now nor later."""
    with collector_off():
        try:
            yield
        finally:
            gc.freeze()


@contextmanager
def collector_off() -> Iterator[None]:
    """Look for no garbage meanwhile."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def give_back_freed_memory() -> None:
    """Return memory to the system that was freed while this process started, if libc is one that can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
