"""Pages of the KV cache, made while nobody waits for them.

The first write to a page waits until the system has cleared it, and in a virtual machine perhaps until the host has
found one: 2 to 6 ms for 2 MiB, and a step of many tokens writes to a page of every layer. An engine that has nothing
else to do makes the pages that it will write to first.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from octavo.engine.libc import libc
from octavo.kernels.cpu.huge_pages import HUGE_PAGE_BYTES

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.models.forward_context import LayerKVCache

_MOST_BYTES = 1 << 30  # what follows is made when it is written to: a large cache may never be full
_PAGES_AT_A_TIME = 4
_MADV_POPULATE_WRITE = 23  # of Linux 5.14 and later; changes no number


class KVCachePages:
    """The first pages of a KV cache on the CPU: those of the blocks that are given to requests first.

    Args:
        kv_caches: of all layers.
    """

    def __init__(self, kv_caches: Sequence[LayerKVCache]) -> None:
        parts = {part.data_ptr(): part for cache in kv_caches for part in (cache.key, cache.value) if part.is_cpu}
        self._pieces = _pieces(list(parts.values())) if sys.platform == "linux" else iter(())

    def make_some(self) -> bool:
        """Make a few pages, for some hundredths of a second; whether there may be more to make."""
        for _ in range(_PAGES_AT_A_TIME):
            piece = next(self._pieces, None)
            if piece is None:
                return False
            if libc().madvise(*piece, _MADV_POPULATE_WRITE) != 0:  # an older system: pages come when they are used
                self._pieces = iter(())
                return False
        return True


def _pieces(parts: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """Yield addresses and sizes: some blocks of all layers, then the next ones."""
    left = _MOST_BYTES
    for offset in range(0, max((part.nbytes for part in parts), default=0), HUGE_PAGE_BYTES):
        for part in parts:
            if left <= 0:
                return
            if offset >= part.nbytes:
                continue
            begin, end = part.data_ptr() + offset, part.data_ptr() + min(offset + HUGE_PAGE_BYTES, part.nbytes)
            begin -= begin % mmap.PAGESIZE
            left -= end - begin
            yield begin, end - begin
