"""Proposers whose drafts a test decides on, and the scheduler's view of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from octavo.engine.request import Request


class ScriptedProposer:
    """Proposes what a function of the known tokens and the greatest length returns."""

    def __init__(self, guess: Callable[[list[int], int], list[int]], *, computes: bool = False) -> None:
        self._guess = guess
        self.computes = computes
        self.forgotten: list[str] = []

    def propose(self, requests: Sequence[Request], max_lens: Sequence[int], starts: Sequence[int]) -> list[list[int]]:
        return [
            self._guess(list(request.token_ids), max_len)[:max_len]
            for request, max_len in zip(requests, max_lens, strict=True)
        ]

    def forget(self, request: Request) -> None:
        self.forgotten.append(request.request_id)
