"""How much work a grammar may be, the same where it is checked and where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLParserLimits

_MAX_LEXER_STATES = 25_000  # up to 1 KB each, for each grammar


def parser_limits() -> LLParserLimits:
    """Return llguidance's limits; a mask takes 40 ms at most under them, whatever the grammar."""
    from llguidance import LLParserLimits

    return LLParserLimits(max_lexer_states=_MAX_LEXER_STATES, verbose_errors=False)
