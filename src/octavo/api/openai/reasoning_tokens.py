"""Counts the tokens of an answer that were reasoning."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.text import Tokenizer
from octavo.text.reasoning_parsers import ReasoningFormat


class ReasoningTokenCounter:
    """Counts the tokens of one answer up to the one that ends the reasoning, without the tags.

    Where a tag is no token of its own, the reasoning's text is tokenized again: the count may then be off by the
    white space at its ends.
    """

    def __init__(self, style: ReasoningFormat, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._begin = tokenizer.token_id(style.begin)
        self._end = tokenizer.token_id(style.end)
        self._num_before_end = 0
        self._has_ended = False
        self._has_reasoned = False
        self._text = ""

    @property
    def num_tokens(self) -> int:
        """Tokens of reasoning so far."""
        if not self._has_reasoned:
            return 0
        if self._end is None:
            return len(self._tokenizer.encode(self._text, add_special_tokens=False))
        return self._num_before_end

    def add(self, token_ids: Sequence[int], reasoning: str, *, is_reasoning: bool) -> None:
        """Take in what is new of an answer.

        Args:
            reasoning: the part of its text that is reasoning.
            is_reasoning: whether the answer now ends in reasoning.
        """
        self._has_reasoned = self._has_reasoned or bool(reasoning) or is_reasoning
        if self._end is None:
            self._text += reasoning
            return
        for token_id in token_ids:
            if self._has_ended:
                return
            if token_id == self._end:
                self._has_ended = True
            elif token_id != self._begin:
                self._num_before_end += 1
