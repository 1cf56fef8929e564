"""A bound on how long a model may think: once it is reached, the tokens that end the thinking are forced."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

FORCING_BIAS = 1e9
"""Added to a logit, this leaves no other token a chance, and stays finite through penalties and temperatures."""
_MAX_TOKENS_BEFORE_THINKING = 8


class ThinkingBudget(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """How many tokens of thinking an output may have, and how thinking looks in tokens.

    Attributes:
        num_tokens: thinking tokens at most, without those that begin and end it.
        begin_token_ids, end_token_ids: what begins and what ends the thinking; neither is empty.
        is_open: whether the output begins in the middle of thinking; else it thinks only if it begins with
            ``begin_token_ids``.
    """

    num_tokens: int
    begin_token_ids: list[int]
    end_token_ids: list[int]
    is_open: bool


def forced_token(budget: ThinkingBudget, output_token_ids: Sequence[int]) -> tuple[int | None, bool]:
    """Say which token must come next, if any, and whether this can still change.

    Args:
        output_token_ids: what was sampled so far.

    Returns:
        The forced token (None if all tokens are allowed), and whether the thinking goes on: once it does not, no token
        will be forced any more.
    """
    output = list(output_token_ids)
    end = budget.end_token_ids
    start = 0
    if not budget.is_open:
        begin = _find(output[: _MAX_TOKENS_BEFORE_THINKING + len(budget.begin_token_ids)], budget.begin_token_ids)
        if begin < 0:
            return None, len(output) < _MAX_TOKENS_BEFORE_THINKING + len(budget.begin_token_ids)
        start = begin + len(budget.begin_token_ids)
    if len(output) - start < budget.num_tokens:
        return None, True
    thought = output[start:]
    if _find(thought, end) >= 0:
        return None, False
    num_forced = next(count for count in range(len(end) - 1, -1, -1) if thought[len(thought) - count :] == end[:count])
    return end[num_forced], True


def _find(tokens: list[int], wanted: list[int]) -> int:
    """Return where ``wanted`` begins in ``tokens``; -1 if it is not there."""
    places = range(len(tokens) - len(wanted) + 1)
    return next((place for place in places if tokens[place : place + len(wanted)] == wanted), -1)
