"""Drafts from the sequence itself and from earlier outputs, by what followed there how often.

After SuffixDecoding (arXiv:2411.04975). Instead of a tree, the texts lie end to end and are searched: what a node of
the tree counts is the number of places that are left when a text has been followed down to it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from octavo.engine.speculation.token_search import TokenBuffer, find_longest_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from octavo.engine.request import Request

MAX_CACHED_TOKENS = 2**18
_END_OF_TEXT = -1


class SuffixProposer:
    """Looks the end of a sequence up in the sequence and in outputs that have ended, and follows the commonest way.

    The longer of the two matches counts, of equally long ones that in the sequence itself. Requests with a
    ``cache_salt`` see and leave nothing but their own tokens.

    Args:
        max_depth: tokens that are compared at most.
        max_cached_requests: outputs that are kept, the latest ones; together they have at most 262,144 tokens.
        max_spec_factor: a draft has at most this times the tokens that were the same.
        min_token_prob: a draft ends before the token whose estimated chance, given all before it, falls below.
    """

    computes = False

    def __init__(
        self, *, max_depth: int, max_cached_requests: int, max_spec_factor: float, min_token_prob: float
    ) -> None:
        self._max_depth = max_depth
        self._max_cached_requests = max_cached_requests
        self._max_spec_factor = max_spec_factor
        self._min_token_prob = min_token_prob
        self._histories: dict[str, TokenBuffer] = {}
        self._outputs = _Outputs(max_cached_requests)

    def num_behind(self, request: Request) -> int:
        """Nothing is computed."""
        return 0

    def propose(self, requests: Sequence[Request], max_lens: Sequence[int]) -> list[list[int]]:
        """Guess what follows each request; empty where its last token never came up before."""
        return [self._propose(request, max_len) for request, max_len in zip(requests, max_lens, strict=True)]

    def forget(self, request: Request) -> None:
        """Keep the output of a request that has ended, for others."""
        self._histories.pop(request.request_id, None)
        if request.may_share_tokens:
            self._outputs.add(request.token_ids[request.prompt_len :])

    def _propose(self, request: Request, max_len: int) -> list[int]:
        history = self._histories.get(request.request_id)
        if history is None:
            history = self._histories[request.request_id] = TokenBuffer(2 * len(request.token_ids))
        history.extend(request.token_ids[len(history) :])
        tokens = text = history.tokens
        places, length = find_longest_end(tokens, tokens, self._max_depth)
        if request.may_share_tokens:
            elsewhere, length_elsewhere = find_longest_end(self._outputs.tokens, tokens, self._max_depth)
            if length_elsewhere > length:
                text, places, length = self._outputs.tokens, elsewhere, length_elsewhere
        return self._follow(text, places, min(max_len, int(length * self._max_spec_factor)))

    def _follow(self, text: NDArray[np.int32], places: NDArray[np.int64], max_len: int) -> list[int]:
        draft: list[int] = []
        chance = 1.0
        while len(draft) < max_len and len(places):
            tokens, counts = np.unique(text[places], return_counts=True)
            commonest = int(counts.argmax())
            chance *= counts[commonest] / len(places)
            token_id = int(tokens[commonest])
            if chance < self._min_token_prob or token_id == _END_OF_TEXT:
                break
            draft.append(token_id)
            places = places[text[places] == token_id] + 1
            places = places[places < len(text)]
        return draft


class _Outputs:
    """Texts end to end, each with a mark behind it; the oldest go first."""

    def __init__(self, max_texts: int) -> None:
        self._max_texts = max_texts
        self._lens: deque[int] = deque()
        self._num_tokens = 0
        self._buffer = TokenBuffer()

    @property
    def tokens(self) -> NDArray[np.int32]:
        return self._buffer.tokens

    def add(self, token_ids: list[int]) -> None:
        """Append a text; one that is longer than all may be together is left out."""
        text = [*token_ids, _END_OF_TEXT]
        if len(text) == 1 or len(text) > MAX_CACHED_TOKENS or not self._max_texts:
            return
        self._buffer.extend(text)
        self._lens.append(len(text))
        self._num_tokens += len(text)
        while len(self._lens) > self._max_texts or self._num_tokens > MAX_CACHED_TOKENS:
            self._num_tokens -= self._lens.popleft()
        if len(self._buffer) >= 2 * self._num_tokens:  # half of it is too old
            kept = TokenBuffer(2 * self._num_tokens)
            kept.extend(self._buffer.tokens[len(self._buffer) - self._num_tokens :])
            self._buffer = kept
