"""How much work a grammar may be, the same where it is checked and where it is used, and how one is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLParserLimits

_MAX_LEXER_STATES = 25_000  # up to 1 KB each, for each grammar
_MAX_MESSAGE = 400
_NON_VERBOSE = "<non-verbose/>"
_NOTHING_MATCHES = "NoExtensionBias"


def parser_limits() -> LLParserLimits:
    """Return llguidance's limits. Of grammars made to be slow, none had a mask that took more than 40 ms under them."""
    from llguidance import LLParserLimits

    return LLParserLimits(max_lexer_states=_MAX_LEXER_STATES, verbose_errors=False)


def explain(message: str) -> str:
    """Return what to tell the user when llguidance refuses a grammar, or gives up on one."""
    message = message.replace(_NON_VERBOSE, "").strip()
    if message == _NOTHING_MATCHES:
        message = "no text can satisfy it"
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "…"
    return f"the output cannot be held to this form: {message}"
