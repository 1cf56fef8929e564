"""Memory for the weights, made while torch is imported.

The first write to a page waits until the system has cleared it, and in a virtual machine perhaps until the host has
found one. For a gigabyte that can take as long as packing the weights, and while torch is imported a core has nothing
to do. Nothing here imports torch.
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

from octavo.engine.libc import libc
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
_QUANTIZED_WHILE_LOADING = ("int8", "int4")


class PagesAhead:
    """Memory of zeros whose pages a thread makes, from now on until it is lent.

    Args:
        num_bytes: how much; rounded down to a multiple of 16 MiB, and none where the system is not Linux.
    """

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes // _PIECE_BYTES * _PIECE_BYTES if sys.platform == "linux" else 0
        self._begin = _map(self.num_bytes) if self.num_bytes else 0
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._make, name="pages ahead", daemon=True)
        self._thread.start()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Make no more pages; let packed weights take this memory, and give back at the end what they did not."""
        from octavo.kernels.cpu import has_native, load_native

        self._stops.set()
        self._thread.join()
        if not self.num_bytes:
            yield
        elif not has_native():
            libc().munmap(self._begin, self.num_bytes)
            yield
        else:
            load_native().lend_pages(self._begin, self.num_bytes)
            try:
                yield
            finally:
                load_native().drop_lent_pages()

    def _make(self) -> None:
        for offset in range(0, self.num_bytes, _PIECE_BYTES):
            if self._stops.is_set():
                return
            ctypes.memset(self._begin + offset, 0, _PIECE_BYTES)


def weight_pages(config: EngineConfig, directory: Path) -> PagesAhead:
    """Begin to make pages for a model's weights; none if it may run on a GPU or would take most of the free memory."""
    may_use_gpu = config.device == "cuda" or (config.device == "auto" and bool(gpu_names()))
    num_bytes = 0 if may_use_gpu else _packed_bytes(config, directory)
    return PagesAhead(num_bytes if num_bytes <= available_host_memory() // 2 else 0)


def _packed_bytes(config: EngineConfig, directory: Path) -> int:
    """Return about what the weights will take, as far as that can be told without reading them; else 0."""
    quantization = config.quantization
    if directory.is_file():
        return directory.stat().st_size if quantization not in _QUANTIZED_WHILE_LOADING else 0
    try:
        shape = read_shape(directory / "config.json")
        packed_as = (
            quantization_named(quantization)
            if quantization in _QUANTIZED_WHILE_LOADING
            else checkpoint_quantization(shape)
        )
    except OctavoError:  # no decoder, or something is wrong with it: whoever builds the engine says what
        return 0
    return weight_bytes(shape, shape.dtype if config.dtype == "auto" else config.dtype, packed_as)


def _map(num_bytes: int) -> int:
    """Return the address of memory on huge pages, none of which has been made yet.

    Raises:
        MemoryError: the system lends no more addresses.
    """
    access, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = libc().mmap(None, num_bytes + _HUGE_PAGE_BYTES, access, flags, -1, 0)
    if address == ctypes.c_void_p(-1).value:
        raise MemoryError(f"{num_bytes:,} bytes cannot be mapped")
    begin: int = address + -address % _HUGE_PAGE_BYTES
    libc().madvise(begin, num_bytes, _MADV_HUGEPAGE)  # only advice
    return begin
