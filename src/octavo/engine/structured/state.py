"""Where one sequence stands in its grammar: which tokens may follow, and which must."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from octavo.engine.structured.limits import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from llguidance import LLMatcher
    from numpy.typing import NDArray


class GrammarState:
    """The grammar of one sequence, after the output tokens that it has.

    Where the grammar leaves no choice of the text, the text's own tokenization is the only one allowed. So a sequence
    is the same whether forced tokens are taken several at a time or sampled one by one.

    Args:
        matcher: at the start of its grammar; this object's alone.
        eos_token_id: what follows a text that is complete and cannot go on.
        vocab_size: token ids are below this.

    Attributes:
        error: why no further token can be judged; empty if all is well.
    """

    def __init__(self, matcher: LLMatcher, *, eos_token_id: int, vocab_size: int) -> None:
        self._matcher = matcher
        self._eos_token_id = eos_token_id
        self._vocab_size = vocab_size
        self._forced: tuple[int, ...] = self._find_forced()
        self.error = ""

    @property
    def forced_token(self) -> int | None:
        """The only token that may follow; None if there is a choice."""
        return self._forced[0] if self._forced else None

    @property
    def is_complete(self) -> bool:
        """Whether the text is complete and cannot go on."""
        return bool(self._matcher.is_stopped()) and not self.error

    def accept(self, token_id: int) -> bool:
        """Take a token; returns whether the grammar allows it. If not, ``error`` says so and nothing follows."""
        if self.error:
            return False
        forced = self._forced
        is_end = self._matcher.is_stopped()  # then the end of the sequence is all that follows, and is not consumed
        if (forced and token_id != forced[0]) or not (is_end or self._matcher.consume_token(token_id)):
            self.error = explain(self._matcher.get_error() or f"token {token_id} does not follow")
            return False
        self._forced = forced[1:] or self._find_forced()
        return True

    def count_allowed(self, draft: Sequence[int]) -> int:
        """Return how many tokens of a draft may follow. What a guess leads to does not change this state."""
        ahead = self.fork()
        for num_allowed, token_id in enumerate(draft):
            if not ahead.accept(token_id):
                return num_allowed
        return len(draft)

    def fork(self) -> GrammarState:
        """Return a state that goes its own way from here; it costs some microseconds for each hundred tokens so far."""
        twin = copy(self)
        twin._matcher = self._matcher.deep_copy()
        return twin

    def fill_mask(self, mask: NDArray[np.uint32]) -> None:
        """Write which tokens may follow.

        Args:
            mask: ``[ceil(vocab_size / 32)]``, contiguous; bit ``i % 32`` of word ``i // 32`` is token ``i``. If the
                grammar has become too complex, ``error`` is set and every token is allowed.
        """
        if self._forced:
            mask[:] = 0
            mask[self._forced[0] // 32] = 1 << (self._forced[0] % 32)
            return
        if not self.error:
            self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
            if self._matcher.is_error():
                self.error = explain(self._matcher.get_error())
        if self.error:
            mask[:] = 0xFFFFFFFF

    def _find_forced(self) -> tuple[int, ...]:
        if self._matcher.is_error():
            return ()
        if self._matcher.is_stopped():
            return (self._eos_token_id,)
        forced = self._matcher.compute_ff_tokens()
        for index, token_id in enumerate(forced):
            if token_id >= self._vocab_size:  # the tokenizer knows tokens that the model lacks
                return tuple(forced[:index])
        return tuple(forced)


class GrammarRows(NamedTuple):
    """Rows of a step's logits that one grammar restricts.

    Attributes:
        first_row: the row behind the tokens that ``state`` knows; those behind the tokens of the draft follow it.
        state: which nobody may change while masks are computed.
        draft: tokens that are guessed to follow.
    """

    first_row: int
    state: GrammarState
    draft: Sequence[int] = ()
