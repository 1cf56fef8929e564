"""Finds the native module, and says why it is not there if it is not."""

from __future__ import annotations

import functools
import importlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from octavo.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

ISA_VARIABLE = "OCTAVO_CPU_ISA"
NO_ISA = "none"
_MODULE = "octavo.kernels.cpu._native"
_TILES = "amx"


@dataclass(frozen=True, slots=True)
class NativeStatus:
    """Whether the native module is there, and what of it is used.

    Attributes:
        missing_because: None if it is there.
        available_isas: instruction sets that the module has code for and this processor runs, the best one last.
        active_isa: the one in use.
        modelled_isas: models of sets that need not be there, for tests: slow, and only in use if they are named.
    """

    missing_because: str | None
    available_isas: tuple[str, ...] = ()
    active_isa: str | None = None
    modelled_isas: tuple[str, ...] = ()


_recorder: Any = None


def load_native() -> Any:
    """Return the native module, with the instruction set that ``OCTAVO_CPU_ISA`` names.

    While calls are recorded (``recording.py``) it is what records them, with the same functions.

    Raises:
        ImportError: it was not built, or does not fit this Python or system, or ``OCTAVO_CPU_ISA`` is ``none``.
        ConfigError: ``OCTAVO_CPU_ISA`` names no instruction set of this machine.
    """
    return _load_module() if _recorder is None else _recorder


@contextmanager
def replaced_by(recorder: object) -> Iterator[None]:
    """Let ``load_native`` return another object for a while. Not for several threads."""
    global _recorder
    _recorder = recorder
    try:
        yield
    finally:
        _recorder = None


def load_again() -> None:
    """Forget the module: what decides whether it is there, and how it runs, has changed."""
    _load_module.cache_clear()
    has_native.cache_clear()


@functools.cache
def _load_module() -> ModuleType:
    if os.environ.get(ISA_VARIABLE) == NO_ISA:
        raise ImportError(f"{ISA_VARIABLE} is {NO_ISA}")
    module = importlib.import_module(_MODULE)
    _choose_isa(module, os.environ)
    if module.active_isa() == _TILES:
        from octavo.kernels.cpu.tile_check import fall_back_from_wrong_tiles

        fall_back_from_wrong_tiles(module, next(name for name in reversed(module.available_isas()) if name != _TILES))
    return module


def _choose_isa(module: ModuleType, environ: Mapping[str, str]) -> None:
    name = environ.get(ISA_VARIABLE)
    if not name:
        return
    if name not in module.available_isas() + module.modelled_isas():
        known = ", ".join(module.available_isas())
        raise ConfigError(
            f"{ISA_VARIABLE}={name} is no instruction set of this machine; it has {known}, and {NO_ISA} switches the "
            "native kernels off"
        )
    module.set_active_isa(name)


@functools.cache
def has_native() -> bool:
    """Whether there is a native module to load.

    Raises:
        ConfigError: ``OCTAVO_CPU_ISA`` names no instruction set of this machine.
    """
    return native_status().missing_because is None


def native_status() -> NativeStatus:
    """Describe the native module without failing where it is missing.

    Raises:
        ConfigError: ``OCTAVO_CPU_ISA`` names no instruction set of this machine.
    """
    try:
        module = _load_module()
    except ModuleNotFoundError:
        return NativeStatus("this installation was made without a C++ compiler")
    except ImportError as error:
        return NativeStatus(str(error))
    return NativeStatus(
        None, tuple(module.available_isas()), module.active_isa(), modelled_isas=tuple(module.modelled_isas())
    )
