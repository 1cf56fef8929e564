"""A weight whose rows may be of several kinds: how they are held is known when they have come from the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn

from octavo.models.quantization.base import LinearWeight, LookupWeight

EmptyLike = Callable[[LinearWeight, int], LinearWeight]
"""Takes rows of some kind, and a number; returns a weight of that kind with so many rows, not yet written."""


class MixedWeight(LookupWeight):
    """Rows of one kind are one weight, and a product; where the kind changes, another weight begins.

    Nothing can be computed before all rows have come.

    Args:
        output_size: rows in all.
        input_size: inputs of each.
    """

    def __init__(self, output_size: int, input_size: int) -> None:
        super().__init__()
        self.output_size, self.input_size = output_size, input_size
        self.weights = nn.ModuleList()
        self._waiting: dict[int, LinearWeight] = {}

    def empty_like(self, rows: LinearWeight, num_rows: int, *, alone: bool) -> LinearWeight:
        """Return a weight of the kind of ``rows`` that can take ``num_rows`` of them.

        Args:
            alone: whether it is the only one.
        """
        return empty_like(rows, num_rows)

    @property
    def parts(self) -> list[LinearWeight]:
        """The weights, in the order of the rows."""
        return cast("list[LinearWeight]", list(self.weights))

    @property
    def num_bytes(self) -> int:
        """Memory that the weight takes."""
        return sum(part.num_bytes for part in self.parts)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        if len(self.weights) == 1:
            whole: Tensor = self.weights[0](x, bias)
            return whole
        products = torch.cat([part(x) for part in self.parts], dim=-1)
        return products if bias is None else products + bias

    def silu_and_mul(self, x: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        if len(self.weights) == 1:
            return self.parts[0].silu_and_mul(x, bias, added)
        return super().silu_and_mul(x, bias, added)

    def lookup(self, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Return rows of a table, which is of one kind."""
        (table,) = self.parts
        return cast("LookupWeight", table).lookup(token_ids, dtype)

    def dequantize(self) -> Tensor:
        return torch.cat([part.dequantize() for part in self.parts])

    def fill_with_noise(self, std: float, generator: torch.Generator) -> None:
        for part in self.parts:
            part.fill_with_noise(std, generator)

    def copy_rows(self, first_row: int, rows: LinearWeight) -> None:
        """Keep rows until the last ones come, and then give all to the weights that hold them."""
        self._waiting[first_row] = rows
        if sum(num_rows(waiting) for waiting in self._waiting.values()) < self.output_size:
            return
        runs = [list(run) for _, run in groupby(self._in_order(), key=_kind)]
        for run in runs:
            weight = self.empty_like(run[0], sum(map(num_rows, run)), alone=len(runs) == 1)
            start = 0
            for rows_of_run in run:
                weight.copy_rows(start, rows_of_run)
                start += num_rows(rows_of_run)
            self.weights.append(weight)

    def _in_order(self) -> Iterator[LinearWeight]:
        """Hand out the rows that waited; each is let go once it has been taken."""
        for first_row in sorted(self._waiting):
            yield self._waiting[first_row]
        self._waiting.clear()


def empty_like(rows: LinearWeight, num_rows: int, device: torch.device | None = None) -> LinearWeight:
    """Return a weight of the kind of ``rows``, which are plain tensors, with ``num_rows`` rows not yet written."""
    parts = {
        name: torch.empty((num_rows, *part.shape[1:]), dtype=part.dtype, device=device or part.device)
        for name, part in rows.named_parameters()
    }
    return type(rows)(**parts)


def num_rows(weight: LinearWeight) -> int:
    """Return the number of rows of a weight that is plain tensors."""
    return len(next(weight.parameters()))


def _kind(weight: LinearWeight) -> tuple[object, ...]:
    parts = ((name, part.dtype, part.shape[1:]) for name, part in weight.named_parameters())
    return type(weight), *parts
