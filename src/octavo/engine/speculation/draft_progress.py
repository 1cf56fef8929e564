"""Which tokens of each sequence a draft model has keys and values of. Knows requests and blocks, no tensors.

The small model shares the block tables of the large one, but computes a sequence only where it is asked to guess. So a
block that the large model has filled may hold nothing of the small one, or what it has computed for a sequence before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from octavo.engine.request import Request


@dataclass(slots=True)
class _Progress:
    """What is computed of a sequence.

    Attributes:
        block_ids: the list that the request had then; after a preemption it has another one.
        num_computed: known tokens, from the first on, that are computed.
        guesses: that are computed behind them.
    """

    block_ids: list[int]
    num_computed: int
    guesses: Sequence[int] = field(default=())


class DraftProgress:
    """Keeps count of what a draft model has computed.

    Args:
        block_size: tokens in a block.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._of_request: dict[str, _Progress] = {}
        # Of full blocks, the hash of the tokens up to their end. Only the draft model writes, so it holds until then.
        self._hashes: dict[int, bytes] = {}

    def num_computed(self, request: Request) -> int:
        """Return how many of the known tokens of a running request are computed, from the first on."""
        progress = self._of_request.get(request.request_id)
        if progress is None or progress.block_ids is not request.block_ids:
            progress = _Progress(request.block_ids, self._cached_prefix(request))
            self._of_request[request.request_id] = progress
        elif progress.guesses:
            following = request.token_ids[progress.num_computed : progress.num_computed + len(progress.guesses)]
            num_right = next(
                (i for i, (a, b) in enumerate(zip(progress.guesses, following, strict=False)) if a != b), len(following)
            )
            self._advance(request, progress, progress.num_computed + num_right)
            progress.guesses = ()
        return progress.num_computed

    def computed(self, request: Request, end: int, guesses: Sequence[int] = ()) -> None:
        """Note that the first ``end`` tokens of a request are computed, and guesses behind them.

        What else has been written may be anywhere in its blocks behind those.
        """
        self.num_computed(request)
        progress = self._of_request[request.request_id]
        self._advance(request, progress, end)
        progress.guesses = guesses
        for block in request.block_ids[end // self._block_size :]:
            self._hashes.pop(block, None)

    def forget(self, request: Request) -> None:
        """A request has ended."""
        self._of_request.pop(request.request_id, None)

    def _cached_prefix(self, request: Request) -> int:
        """Return how much of what the large model found in its prefix cache is there of the small one, too."""
        num_cached = max(request.num_cached_tokens, 0) // self._block_size
        hashes = request.block_hashes(self._block_size)[:num_cached]
        pairs = zip(request.block_ids, hashes, strict=False)
        num_there = next(
            (i for i, (block, wanted) in enumerate(pairs) if self._hashes.get(block) != wanted), len(hashes)
        )
        return num_there * self._block_size

    def _advance(self, request: Request, progress: _Progress, num_computed: int) -> None:
        first, end = progress.num_computed // self._block_size, num_computed // self._block_size
        if first < end:
            hashes = request.block_hashes(self._block_size)
            for index in range(first, end):
                self._hashes[request.block_ids[index]] = hashes[index]
        progress.num_computed = num_computed
