"""The system's calls for memory, which Python's own module does not offer for addresses."""

from __future__ import annotations

import ctypes
from functools import cache


@cache
def libc() -> ctypes.CDLL:
    """Return the C library of this process, with ``mmap``, ``munmap`` and ``madvise`` declared."""
    library = ctypes.CDLL(None)
    library.mmap.restype = ctypes.c_void_p
    memory = (ctypes.c_void_p, ctypes.c_size_t)
    library.mmap.argtypes = (*memory, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    library.munmap.argtypes = memory
    library.madvise.argtypes = (*memory, ctypes.c_int)
    return library
