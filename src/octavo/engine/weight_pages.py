"""Memory for the weights, made while torch is imported.

The first write to a page waits until the system has cleared it, and in a virtual machine perhaps until the host has found
one. For a gigabyte that is as much work as packing the weights, and while torch is imported a core has nothing to do.
Nothing here imports torch.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.config.sizes import format_bytes
from octavo.engine.memory import available_host_memory
from octavo.errors import OctavoError
from octavo.plan.hardware import cpu_hardware
from octavo.plan.request import engine_dtype, read_shape
from octavo.plan.weights import checkpoint_quantization, quantization_named, weight_bytes

if TYPE_CHECKING:
    from octavo.config import EngineConfig

_HUGE_PAGE_BYTES = 2 << 20
# Written at a time: a small part of a second, after which the thread looks whether it is to stop.
_PIECE_BYTES = 8 * _HUGE_PAGE_BYTES
_MAP_FAILED = ctypes.c_void_p(-1).value
logger = logging.getLogger(__name__)


@contextmanager
def weight_pages(config: EngineConfig, directory: Path) -> Iterator[WeightPages]:
    """Make pages for a model's weights; when the context ends, those that no weight has taken are given back."""
    pages = WeightPages(_wanted_bytes(config, directory))
    try:
        yield pages
    finally:
        pages.close()


class WeightPages:
    """A thread that makes pages until they are lent.

    Args:
        num_bytes: of the weights.
    """

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes // _PIECE_BYTES * _PIECE_BYTES
        self._num_made_bytes = 0
        self._stops = threading.Event()
        self._address = _map(self._num_bytes) if self._num_bytes else None
        self._thread = threading.Thread(target=self._make, name="weight pages", daemon=True)
        self._is_lent = False
        if self._address is not None:
            self._thread.start()

    def lend(self) -> None:
        """Let packed weights take what pages there are; from now on no more are made."""
        made = self._end_making()
        if made is None:
            return
        from octavo.kernels.cpu import has_native, load_native

        if has_native():
            logger.debug("made %s of memory ahead", format_bytes(self._num_made_bytes))
            load_native().lend_pages(*made)
            self._is_lent = True
        else:
            _unmap(*made)

    def close(self) -> None:
        """Give back what nobody took."""
        made = self._end_making()
        if made is not None:
            _unmap(*made)
        if self._is_lent:
            from octavo.kernels.cpu import load_native

            load_native().drop_lent_pages()
            self._is_lent = False

    def _make(self) -> None:
        """Write zeros to one piece after the other: nothing else is known to make pages on all systems."""
        while self._num_made_bytes < self._num_bytes and not self._stops.is_set():
            ctypes.memset(self._address + self._num_made_bytes, 0, _PIECE_BYTES)
            self._num_made_bytes += _PIECE_BYTES
