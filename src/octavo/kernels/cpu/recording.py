"""Calls of native kernels written down once and made again without Python.

What Python adds to a kernel (modules, checks, new tensors) takes as long as the kernel itself when few tokens are
computed by a small model. While a function is recorded, its kernels run as ever and each call is written down with the
addresses that it was given. Everything in between must therefore be without effect on numbers: views, and new tensors
that a kernel fills. Their memory comes from an arena, which hands it out again once nothing refers to it, and never
gives it back.
"""

from __future__ import annotations

import logging
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from octavo.kernels.cpu.loading import load_native, replaced_by

if TYPE_CHECKING:
    from octavo.kernels.cpu import _native

R = TypeVar("R")
ResultT = TypeVar("ResultT", Tensor, list[Tensor])

logger = logging.getLogger(__name__)
_NAN_BYTE = 0xFF  # four of them are a NaN
_aten = torch.ops.aten
# What may stand between two kernels: it only says in other words where numbers are.
_VIEWS = frozenset(
    {
        _aten.alias.default,
        _aten.as_strided.default,
        _aten.detach.default,
        _aten.expand.default,
        _aten.flatten.using_ints,
        _aten.permute.default,
        _aten.reshape.default,
        _aten.select.int,
        _aten.slice.Tensor,
        _aten.split.Tensor,
        _aten.split_with_sizes.default,
        _aten.squeeze.dim,
        _aten.t.default,
        _aten.to.dtype,  # of the type that it has already
        _aten.transpose.int,
        _aten.unbind.int,
        _aten.unflatten.int,
        _aten.unsqueeze.default,
        _aten.view.default,
        _aten._unsafe_view.default,
    }
)


class NotRecordableError(Exception):
    """A function does more than call native kernels."""


class Arena:
    """Memory for the tensors of recorded functions, which run one at a time and may share it.

    Attributes:
        checked_kernels: sequences of kernels of which a record has been tried.
    """

    def __init__(self) -> None:
        self.checked_kernels: set[tuple[str, ...]] = set()
        self._free: dict[int, list[np.ndarray[Any, np.dtype[np.uint8]]]] = defaultdict(list)
        self.num_bytes = 0

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor whose memory is free for others again as soon as nothing in Python refers to it."""
        num_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        size = 1 << max(num_bytes - 1, 63).bit_length()  # few different sizes, so that batches of all sizes share
        if self._free[size]:
            buffer = self._free[size].pop()
        else:
            buffer = _aligned(size)
            self.num_bytes += size
        lent = buffer[:]
        weakref.finalize(lent, self._free[size].append, buffer)
        return torch.from_numpy(lent)[:num_bytes].view(dtype).view(shape)

    def fill_free(self, byte: int) -> None:
        """Overwrite everything that no tensor refers to."""
        for buffers in self._free.values():
            for buffer in buffers:
                buffer.fill(byte)


class RecordedCalls:
    """Kernel calls that can be made again.

    Args:
        keep: whatever the addresses in the calls belong to.
    """

    def __init__(self, program: _native.Program, keep: list[object]) -> None:
        self._program = program
        self._keep = keep

    def __len__(self) -> int:
        num_calls: int = self._program.num_calls
        return num_calls

    def run(self) -> None:
        """Compute again, with the numbers that are now in the same tensors."""
        self._program.run()

    @property
    def names(self) -> list[str]:
        """The kernels, in the order of their calls."""
        names: list[str] = self._program.names
        return names

    def run_timed(self) -> list[int]:
        """As ``run``; return how many nanoseconds each call took."""
        times_ns: list[int] = self._program.run_timed()
        return times_ns


def record(function: Callable[[], R], arena: Arena) -> tuple[R, RecordedCalls]:
    """Call ``function`` and write down the kernel calls that it makes.

    Returns:
        What it returned, and the calls. Each run writes to those same tensors.

    Raises:
        NotRecordableError: it computes something without a native kernel.
    """
    program = load_native().Program()
    keep: list[object] = []
    with replaced_by(_Recorder(program, keep)), _OnlyViews(arena):
        result = function()
    return result, RecordedCalls(program, [*keep, result, arena])


def record_checked(function: Callable[[], ResultT], arena: Arena, *, name: str) -> tuple[ResultT, RecordedCalls] | None:
    """As ``record``, if the calls alone give the same numbers; else say why not, and return None.

    It is tried for the first record of each sequence of kernels: others of the same sequence differ in sizes alone, as
    those of batches do, and come from the same code.

    ``function`` must then be called again: whatever else it writes to, like keys and values, may have been overwritten.

    Args:
        name: what is recorded, in words for the log that go before "are".
    """
    try:
        result, calls = record(function, arena)
    except NotRecordableError as reason:
        logger.info("%s are not recorded: %s", name, reason)
        return None
    kernels = tuple(calls.names)
    if kernels in arena.checked_kernels:
        return result, calls
    # What was not written down would now compute with NaN.
    tensors = [result] if isinstance(result, Tensor) else result
    expected = [tensor.clone() for tensor in tensors]
    arena.fill_free(_NAN_BYTE)
    calls.run()
    if all(map(torch.equal, tensors, expected)):
        arena.checked_kernels.add(kernels)
        return result, calls
    logger.warning("%s are not recorded: they gave other numbers", name)
    return None


class _Recorder:
    """Stands for the native module: makes each call and writes it down."""

    def __init__(self, program: _native.Program, keep: list[object]) -> None:
        self._module = load_native()
        self._program = program
        self._keep = keep

    def __getattr__(self, name: str) -> Callable[..., None]:
        call = getattr(self._module, name)
        write_down = getattr(self._program, name, None)
        if write_down is None:
            raise NotRecordableError(f"{name} cannot be recorded")

        def call_and_write_down(*args: object) -> None:
            call(*args)
            write_down(*args)
            self._keep.extend(argument for argument in args if not isinstance(argument, (int, float)))

        return call_and_write_down


class _OnlyViews(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets torch make views and new tensors, and nothing else."""

    def __init__(self, arena: Arena) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._arena = arena

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; to skip it, torch would import its compiler, 800 modules with 80 MB."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _VIEWS:
            result = func(*args, **(kwargs or {}))
            first = result if isinstance(result, Tensor) else result[0]
            if first.untyped_storage().data_ptr() == args[0].untyped_storage().data_ptr():
                return result
        if func is _aten.empty.memory_format:
            return self._arena.allocate(tuple(args[0]), (kwargs or {}).get("dtype") or torch.get_default_dtype())
        raise NotRecordableError(f"{func} cannot be recorded")


def _aligned(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return uninitialised memory at the start of a cache line."""
    buffer = np.empty(size + 64, dtype=np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size]
