"""Drafts from the sequence itself: what followed the last time that its last tokens came up (prompt lookup)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from octavo.engine.speculation.token_search import TokenBuffer, find_longest_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from octavo.engine.request import Request


class NgramProposer:
    """Looks the last ``max_length`` tokens of a sequence up in the sequence, or fewer, down to ``min_length``.

    Of several places the latest one counts. A draft that reaches the end of what is known goes on with itself, so that
    a text which repeats itself is continued for any number of tokens.
    """

    computes = False

    def __init__(self, *, min_length: int, max_length: int) -> None:
        self._min_length = min_length
        self._max_length = max_length
        self._histories: dict[str, TokenBuffer] = {}

    def num_behind(self, request: Request) -> int:
        """Nothing is computed."""
        return 0

    def propose(self, requests: Sequence[Request], max_lens: Sequence[int]) -> list[list[int]]:
        """Guess what follows each request; empty where nothing like its end came up before."""
        return [self._propose(request, max_len) for request, max_len in zip(requests, max_lens, strict=True)]

    def forget(self, request: Request) -> None:
        """Drop the history of a request that has ended."""
        self._histories.pop(request.request_id, None)

    def _propose(self, request: Request, max_len: int) -> list[int]:
        history = self._histories.get(request.request_id)
        if history is None:
            history = self._histories[request.request_id] = TokenBuffer(2 * len(request.token_ids))
        history.extend(request.token_ids[len(history) :])
        tokens = history.tokens
        places, length = find_longest_end(tokens, tokens, self._max_length)
        if length < self._min_length:
            return []
        first = int(places[-1])
        draft: list[int] = tokens[first + np.arange(max_len) % (len(tokens) - first)].tolist()
        return draft
