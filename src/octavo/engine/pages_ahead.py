"""Memory for the weights, made while torch is imported.

The first write to a page waits until the system has cleared it, and in a virtual machine perhaps until the host has found
one. For a gigabyte that can be as much work as packing the weights, and while torch is imported a core has nothing to do.
Nothing here imports torch.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.engine.memory import available_host_memory
from octavo.errors import OctavoError
from octavo.plan.request import read_shape
from octavo.plan.this_machine import gpu_names
from octavo.plan.weights import checkpoint_quantization, quantization_named, weight_bytes

if TYPE_CHECKING:
    from octavo.config import EngineConfig

_HUGE_PAGE_BYTES = 2 << 20
# Written at a time: some hundredths of a second, after which the thread looks whether it is to stop.
_PIECE_BYTES = 8 * _HUGE_PAGE_BYTES
_MADV_HUGEPAGE = 14


class PagesAhead:
    """Memory of zeros whose pages a thread makes, from now on until it is lent.

    Args:
        num_bytes: how much; what is less than 16 MiB of it is left out.
    """

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes // _PIECE_BYTES * _PIECE_BYTES if sys.platform == "linux" else 0
        self._begin = _map(self._num_bytes) if self._num_bytes else 0
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._make, name="pages ahead", daemon=True)
        self._thread.start()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Make no more pages; let packed weights take this memory, and give back at the end what they did not."""
        from octavo.kernels.cpu import has_native, load_native

        self._stops.set()
        self._thread.join()
        if not self._num_bytes:
            yield
        elif not has_native():
            _libc().munmap(self._begin, self._num_bytes)
            yield
        else:
            load_native().lend_pages(self._begin, self._num_bytes)
            try:
                yield
            finally:
                load_native().drop_lent_pages()

    def _make(self) -> None:
        for offset in range(0, self._num_bytes, _PIECE_BYTES):
            if self._stops.is_set():
                return
            ctypes.memset(self._begin + offset, 0, _PIECE_BYTES)


def weight_pages(config: EngineConfig, directory: Path) -> PagesAhead:
    """Begin to make pages for the weights of a model that will run on the CPU; none if they take most of the memory."""
    num_bytes = 0 if _may_use_gpu(config) else _stored_bytes(config, directory)
    return PagesAhead(num_bytes if num_bytes <= available_host_memory() // 2 else 0)


def _may_use_gpu(config: EngineConfig) -> bool:
    return config.device == "cuda" or (config.device == "auto" and bool(gpu_names()))


def _stored_bytes(config: EngineConfig, directory: Path) -> int:
    """Return what the weights will take in memory as far as that is known without the weights."""
    if directory.is_file():
        return directory.stat().st_size if config.quantization is None else 0
    try:
        shape = read_shape(directory / "config.json")
        packed_as = quantization_named(config.quantization) if config.quantization else checkpoint_quantization(shape)
    except OctavoError:  # not a decoder, or a wrong setting: who builds the engine knows better
        return 0
    return weight_bytes(shape, shape.dtype if config.dtype == "auto" else config.dtype, packed_as)


def _map(num_bytes: int) -> int:
    """Return the address of memory on huge pages, none of which has been made yet.

    Raises:
        MemoryError: the system lends no more addresses.
    """
    libc = _libc()
    access, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = libc.mmap(None, num_bytes + _HUGE_PAGE_BYTES, access, flags, -1, 0)
    if address == ctypes.c_void_p(-1).value:
        raise MemoryError(f"{num_bytes:,} bytes cannot be mapped")
    begin = address + -address % _HUGE_PAGE_BYTES
    libc.madvise(begin, num_bytes, _MADV_HUGEPAGE)  # only advice
    return int(begin)


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (*(ctypes.c_void_p, ctypes.c_size_t), *(ctypes.c_int,) * 3, ctypes.c_long)
    for call in (libc.munmap, libc.madvise):
        call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)[: 2 if call is libc.munmap else 3]
    return libc
