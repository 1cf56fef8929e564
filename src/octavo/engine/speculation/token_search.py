"""Where in a text the end of another text stands, in tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MAX_PLACES = 1024  # of those where only the last token is the same, the latest ones are looked at


class TokenBuffer:
    """Token ids as an array that can grow at its end."""

    def __init__(self, capacity: int = 1024) -> None:
        self._tokens = np.empty(max(capacity, 1), dtype=np.int32)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def tokens(self) -> NDArray[np.int32]:
        """All tokens, ``[length]``; valid until the next change."""
        return self._tokens[: self._length]

    def extend(self, token_ids: Sequence[int] | NDArray[np.int32]) -> None:
        """Append tokens."""
        end = self._length + len(token_ids)
        if end > len(self._tokens):
            grown = np.empty(max(end, 2 * len(self._tokens)), dtype=np.int32)
            grown[: self._length] = self.tokens
            self._tokens = grown
        self._tokens[self._length : end] = token_ids
        self._length = end


def find_longest_end(
    tokens: NDArray[np.int32], tail: NDArray[np.int32], max_length: int
) -> tuple[NDArray[np.int64], int]:
    """Find the longest end of ``tail`` that stands in ``tokens`` with something behind it.

    Args:
        tokens: ``[n]``.
        tail: ``[m]``; may be ``tokens`` itself.
        max_length: tokens of the end at most.

    Returns:
        The places in ``tokens`` of what follows it, ascending, and the length of the end: 0 if there is none.
    """
    if len(tail) == 0:
        return np.empty(0, dtype=np.int64), 0
    places: NDArray[np.int64] = np.flatnonzero(tokens[:-1] == tail[-1])[-_MAX_PLACES:] + 1
    length = 1 if len(places) else 0
    while 0 < length < min(max_length, len(tail)):
        inside = places[places > length]
        longer = inside[tokens[inside - length - 1] == tail[-length - 1]]
        if not len(longer):
            break
        places, length = longer, length + 1
    return places, length
