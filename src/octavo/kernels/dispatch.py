"""The one table that says which implementation of an operation runs, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Concatenate, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

ANY_DEVICE = frozenset({"cpu", "cuda"})
ANY_FLOAT = frozenset({torch.float32, torch.bfloat16, torch.float16})


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Implementation(Generic[P, R]):
    """One way to compute an operation, and the inputs for which it is taken.

    Attributes:
        device_types, dtypes: of the operation's first tensor.
        is_available: whether this installation has it; asked only once an input has the right device and type.
    """

    name: str
    function: Callable[Concatenate[Tensor, P], R]
    device_types: frozenset[str] = ANY_DEVICE
    dtypes: frozenset[torch.dtype] = ANY_FLOAT
    is_available: Callable[[], bool] = _always

    def takes(self, tensor: Tensor) -> bool:
        """Whether this implementation computes for such a tensor."""
        return tensor.dtype in self.dtypes and tensor.device.type in self.device_types and self.is_available()


@dataclass(frozen=True, slots=True)
class Operation(Generic[P, R]):
    """An operation and its implementations, the preferred one first; a call runs the first that takes the input."""

    name: str
    implementations: Sequence[Implementation[P, R]]
    # What was chosen for each device type and dtype: a step makes some two hundred calls.
    _chosen: dict[tuple[str, torch.dtype], Callable[Concatenate[Tensor, P], R]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __call__(self, tensor: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (tensor.device.type, tensor.dtype)
        function = self._chosen.get(key)
        if function is None:
            function = self._chosen[key] = self._choose(tensor)
        return function(tensor, *args, **kwargs)

    def forget_choices(self) -> None:
        """Choose implementations anew at the next calls."""
        self._chosen.clear()

    def _choose(self, tensor: Tensor) -> Callable[Concatenate[Tensor, P], R]:
        for implementation in self.implementations:
            if implementation.takes(tensor):
                return implementation.function
        raise TypeError(f"no implementation of {self.name} takes {tensor.dtype} on {tensor.device.type}")


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One line of the dispatch table, for people."""

    operation: str
    implementation: str
    device_types: tuple[str, ...]
    dtypes: tuple[str, ...]


def rows_of(operation: Operation[P, R]) -> list[KernelRow]:
    """Return the table's lines of one operation, in the order in which they are tried."""
    return [
        KernelRow(
            operation=operation.name,
            implementation=implementation.name,
            device_types=tuple(sorted(implementation.device_types)),
            dtypes=tuple(sorted(str(dtype).removeprefix("torch.") for dtype in implementation.dtypes)),
        )
        for implementation in operation.implementations
    ]
