"""How names of metrics begin. Light, since the settings need it."""

from __future__ import annotations

import re

DEFAULT_PREFIX = "octavo_"
VLLM_PREFIX = "vllm:"
_LEGAL = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def is_legal_prefix(prefix: str) -> bool:
    """Whether Prometheus accepts names that begin with ``prefix``."""
    return _LEGAL.fullmatch(prefix) is not None
