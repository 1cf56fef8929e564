"""Calls of native kernels written down once and made again without Python.

What Python adds to a kernel (modules, checks, new tensors) takes as long as the kernel itself when few tokens are
computed by a small model, and longer after a large kernel has filled the caches. While a function is recorded, the
calls of its kernels are not made but written down, with the addresses that they were given. Everything in between must
therefore be without effect on numbers: views, and new tensors that a kernel fills. Their memory comes from an arena,
which hands it out again once nothing refers to it, and never gives it back.

A function over a batch is recorded for the largest one: in calls for fewer tokens or sequences nothing else is
different.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from octavo.kernels.cpu.huge_pages import empty_on_huge_pages
from octavo.kernels.cpu.loading import load_native, replaced_by

if TYPE_CHECKING:
    from octavo.kernels.cpu import _native

R = TypeVar("R")
ResultT = TypeVar("ResultT", Tensor, list[Tensor])

logger = logging.getLogger(__name__)
_NAN_BYTE = 0xFF  # four of them are a NaN
_CACHE_LINE = 64
_REGION_BYTES = 64 << 20  # of addresses: memory is taken as it is used
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
        self._regions: list[_Region] = []

    @property
    def num_bytes(self) -> int:
        """Memory that has been in use."""
        return sum(region.num_used for region in self._regions)

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor whose memory is free for others again as soon as nothing in Python refers to it."""
        num_bytes = math.prod(shape) * dtype.itemsize
        size = max(-(-num_bytes // _CACHE_LINE), 1) * _CACHE_LINE
        return torch.from_numpy(self._lend(size))[:num_bytes].view(dtype).view(shape)

    def _lend(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        for region in self._regions:
            lent = region.lend(size)
            if lent is not None:
                return lent
        self._regions.append(_Region(max(size, _REGION_BYTES)))
        return self._lend(size)

    def fill_free(self, byte: int, share: float = 1) -> None:
        """Overwrite what was lent and is free now, or the first part of each piece."""
        for region in self._regions:
            region.fill_free(byte, share)


class _Region:
    """Bytes side by side, lent in pieces: each time the first ones that are free, which were used last."""

    def __init__(self, size: int) -> None:
        self.num_used = 0
        self._memory = empty_on_huge_pages((size,), torch.uint8).numpy()
        self._free = [(0, size)]  # begin and end of each gap, in order
        self._lent: set[tuple[int, int]] = set()  # at some time

    def lend(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
        """Return so many bytes, which come back when nothing refers to them, or None if no gap has as many."""
        for index, (begin, end) in enumerate(self._free):
            if end - begin >= size:
                self._free[index : index + 1] = [(begin + size, end)] if end - begin > size else []
                self._lent.add((begin, begin + size))
                self.num_used = max(self.num_used, begin + size)
                lent = self._memory[begin : begin + size]
                weakref.finalize(lent, self._take_back, begin, begin + size)
                return lent
        return None

    def fill_free(self, byte: int, share: float) -> None:
        """As of the arena."""
        for first, last in self._lent:
            last = first + math.ceil(share * (last - first))
            for begin, end in self._free:
                self._memory[max(first, begin) : min(last, end)] = byte

    def _take_back(self, begin: int, end: int) -> None:
        gaps: list[tuple[int, int]] = []
        for gap in sorted([*self._free, (begin, end)]):
            if gaps and gaps[-1][1] == gap[0]:
                gaps[-1] = (gaps[-1][0], gap[1])
            else:
                gaps.append(gap)
        self._free = gaps


@dataclass(frozen=True, slots=True)
class Batch:
    """How many tokens of how many sequences are computed; 1 and 1 of what always computes the same."""

    num_tokens: int = 1
    num_seqs: int = 1


ONE = Batch()


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

    def run(self, batch: Batch = ONE) -> None:
        """Compute, with the numbers that are now in the same tensors.

        Args:
            batch: no larger than the recorded one; the first rows of the tensors are its own.

        Raises:
            ValueError: it is larger.
        """
        self._program.run(batch.num_tokens, batch.num_seqs)

    @property
    def names(self) -> list[str]:
        """The kernels, in the order of their calls."""
        names: list[str] = self._program.names
        return names

    def run_timed(self, batch: Batch = ONE) -> list[int]:
        """As ``run``; return how many nanoseconds each call took."""
        times_ns: list[int] = self._program.run_timed(batch.num_tokens, batch.num_seqs)
        return times_ns


def record(function: Callable[[], R], arena: Arena, largest: Batch = ONE) -> tuple[R, RecordedCalls]:
    """Call ``function`` and write down the kernel calls that it would make.

    Args:
        largest: the batch that it computes.

    Returns:
        What it returned, still without numbers, and the calls. Each run writes to those same tensors.

    Raises:
        NotRecordableError: it computes something without a native kernel.
    """
    program = load_native().Program(largest.num_tokens, largest.num_seqs)
    keep: list[object] = []
    with replaced_by(_Recorder(program, keep)), _OnlyViews(arena):
        result = function()
    return result, RecordedCalls(program, [*keep, result, arena])


def record_checked(
    function: Callable[[], ResultT],
    expected: ResultT,
    arena: Arena,
    *,
    name: str,
    largest: Batch = ONE,
    batch: Batch = ONE,
) -> tuple[ResultT, RecordedCalls] | None:
    """As ``record``, if the calls give the numbers that are expected; else say why not, and return None.

    It is tried for the first record of each sequence of kernels: others of the same sequence differ in sizes alone, and
    come from the same code. Where it fails, whatever else the function writes to, like keys and values, may have been
    overwritten with wrong numbers.

    Args:
        expected: what the function computes without being recorded, for ``batch``, whose inputs are in place.
        name: what is recorded, in words for the log that go before "are".
        largest: the batch to record.
    """
    try:
        result, calls = record(function, arena, largest)
    except NotRecordableError as reason:
        logger.info("%s are not recorded: %s", name, reason)
        return None
    kernels = tuple(calls.names)
    if kernels in arena.checked_kernels:
        return result, calls
    # What was not written down would compute with NaN.
    arena.fill_free(_NAN_BYTE, batch.num_tokens / largest.num_tokens)
    wanted = _tensors(expected)
    computed = [tensor[: len(one)] for tensor, one in zip(_tensors(result), wanted, strict=True)]
    for tensor in computed:
        tensor.view(torch.uint8).fill_(_NAN_BYTE)
    calls.run(batch)
    if all(map(torch.equal, computed, wanted)):
        arena.checked_kernels.add(kernels)
        return result, calls
    logger.warning("%s are not recorded: they gave other numbers", name)
    return None


def _tensors(result: Tensor | list[Tensor]) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else result


class _Recorder:
    """Stands for the native module: writes each call down."""

    def __init__(self, program: _native.Program, keep: list[object]) -> None:
        self._program = program
        self._keep = keep

    def __getattr__(self, name: str) -> Callable[..., None]:
        write_down = getattr(self._program, name, None)
        if write_down is None:
            raise NotRecordableError(f"{name} cannot be recorded")

        def write_down_and_keep(*args: object) -> None:
            try:
                write_down(*args)
            except ValueError as reason:
                raise NotRecordableError(f"{name} cannot be recorded: {reason}") from None
            self._keep.extend(argument for argument in args if not isinstance(argument, (int, float)))

        return write_down_and_keep


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
