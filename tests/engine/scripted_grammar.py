"""A grammar without a library: what it allows is a function of the tokens so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from octavo.engine.structured.state import GrammarState


class ScriptedGrammar(GrammarState):
    """Allows what a function of all tokens of the sequence returns, prompt included; never complete.

    Attributes:
        token_ids: those that it was told of, behind those of the prompt.
    """

    def __init__(self, prompt: Sequence[int], allowed_after: Callable[[Sequence[int]], Sequence[int]]) -> None:
        self.token_ids = list(prompt)
        self._allowed_after = allowed_after
        self.error = ""

    @property
    def forced_token(self) -> int | None:
        allowed = self._allowed_after(self.token_ids)
        return allowed[0] if len(allowed) == 1 else None

    @property
    def is_complete(self) -> bool:
        return False

    def accept(self, token_id: int) -> bool:
        if token_id not in self._allowed_after(self.token_ids):
            self.error = f"{token_id} does not follow"
            return False
        self.token_ids.append(token_id)
        return True

    def fork(self) -> ScriptedGrammar:
        return ScriptedGrammar(self.token_ids, self._allowed_after)

    def allowed_along(self, draft: Sequence[int]) -> list[Sequence[int]]:
        """What may follow, and what may follow each token of a draft."""
        return [self._allowed_after([*self.token_ids, *draft[:length]]) for length in range(len(draft) + 1)]
