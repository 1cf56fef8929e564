"""Service-level objectives as people write them: ``ttft:500ms,tpot:33ms``."""

from __future__ import annotations

import re

from octavo.bench.summary import Slo
from octavo.errors import ConfigError, nearest_name

_NAMES = ("ttft", "tpot", "itl", "e2e")
_MILLISECONDS = {"ms": 1.0, "s": 1e3, "": 1.0}
_TIME = re.compile(r"([0-9]*\.?[0-9]+)\s*(ms|s|)")


def parse_slo(text: str) -> Slo:
    """Read objectives: names of latencies and limits in ``ms`` (also without a unit) or ``s``, with commas between.

    Raises:
        ConfigError: a name is not known or comes twice, or a limit is no time.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, _, limit = (piece.strip() for piece in part.partition(":"))
        if name not in _NAMES:
            near = nearest_name(name, _NAMES)
            hint = f"; did you mean {near}?" if near else ""
            raise ConfigError(f"objective {part.strip()!r} names no latency{hint} (latencies: {', '.join(_NAMES)})")
        match = _TIME.fullmatch(limit)
        if match is None or float(match[1]) <= 0:
            raise ConfigError(f"objective {part.strip()!r} needs a time above 0, such as {name}:500ms or {name}:1.5s")
        if f"{name}_ms" in limits:
            raise ConfigError(f"objective {name} is there twice in {text!r}")
        limits[f"{name}_ms"] = float(match[1]) * _MILLISECONDS[match[2]]
    return Slo(**limits)
