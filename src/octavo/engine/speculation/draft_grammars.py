"""What grammars allow while a draft is made. The grammars of the requests themselves stay where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.engine.structured.state import GrammarRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from torch import Tensor

    from octavo.engine.request import Request
    from octavo.engine.structured.masks import AllowedTokens, MaskWorker
    from octavo.engine.structured.state import GrammarState


class DraftGrammars:
    """The grammars of some requests, followed along their drafts step by step.

    A sequence whose grammar cannot go on is guessed freely from there; that part of its draft is worthless.

    Args:
        requests: one row of logits each, with a grammar or without.
    """

    def __init__(self, requests: Sequence[Request], masks: MaskWorker) -> None:
        self._states: dict[int, GrammarState] = {
            row: request.grammar.fork() for row, request in enumerate(requests) if request.grammar is not None
        }
        self._masks = masks
        self._pending: Future[AllowedTokens] | None = None

    def begin_step(self) -> None:
        """Start computing what may follow, while the model computes."""
        self._pending = self._masks.begin([GrammarRows(row, state) for row, state in self._states.items()])

    def restrict(self, logits: Tensor) -> None:
        """Set the logits of tokens that may not follow to minus infinity, ``[num_rows, vocab_size]`` in place."""
        if self._pending is not None:
            self._pending.result().apply(logits)

    def follow(self, token_ids: Sequence[int]) -> None:
        """Tell the grammars which token was guessed in each row."""
        self._states = {row: state for row, state in self._states.items() if state.accept(token_ids[row])}
