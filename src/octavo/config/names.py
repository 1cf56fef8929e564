"""What to say about a name that is not accepted: that of a flag, variable, key, argument or command."""

from __future__ import annotations

from collections.abc import Iterable

from octavo.config.vllm import NOT_YET
from octavo.errors import nearest_name


def explain_unknown(name: str, valid: Iterable[str], *, shown_as: str | None = None) -> str:
    """Say why a name is not accepted, and which name was probably meant.

    Args:
        name: the name with underscores.
        valid: the names that are accepted, spelled as the user would spell them.
        shown_as: the name as the user spelled it, if not ``name``.
    """
    shown_as = shown_as or name
    if name.removeprefix("no_") in NOT_YET:
        return f"vLLM's {shown_as} does not exist in Octavo yet"
    near = nearest_name(shown_as, valid)
    return f"there is no {shown_as}" + (f"; did you mean {near}?" if near else "")
