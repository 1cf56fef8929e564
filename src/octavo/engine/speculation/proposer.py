"""What a source of drafts must offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from octavo.engine.request import Request


class Proposer(Protocol):
    """Guesses which tokens follow those of a sequence."""

    @property
    def computes(self) -> bool:
        """Whether a draft costs time on the device, so that it pays to decide on its length before it is made."""

    def num_behind(self, request: Request) -> int:
        """Return how many known tokens of a request must be computed before the first guess; 0 if none are ever."""

    def propose(self, requests: Sequence[Request], max_lens: Sequence[int]) -> list[list[int]]:
        """Guess what follows the known tokens of each request.

        Args:
            requests: running.
            max_lens: tokens to guess for each at most, at least 1. The blocks of the request have room for them.

        Returns:
            One draft a request; a draft may be empty.
        """

    def forget(self, request: Request) -> None:
        """A request has ended."""
