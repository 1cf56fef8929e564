"""Sizes and counts as people write them: ``32MiB``, ``4G``, ``8k``."""

from __future__ import annotations

import re

_BYTE_UNITS = {
    "": 1,
    "B": 1,
    "K": 2**10,
    "M": 2**20,
    "G": 2**30,
    "T": 2**40,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "K": 2**10, "M": 2**20}
_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(value: object) -> object:
    """Turn ``"2GiB"`` into bytes; a value that is no string is left to the type check.

    ``K``, ``M``, ``G``, ``T`` alone are powers of 1,024; ``kB``, ``MB``, … are powers of 1,000.
    """
    if not isinstance(value, str):
        return value
    match = _NUMBER_AND_UNIT.fullmatch(value)
    if match is None or match[2].upper() not in _BYTE_UNITS:
        raise ValueError(f"{value!r} is not a size; write bytes or a size like 512MiB or 4GiB")
    return int(float(match[1]) * _BYTE_UNITS[match[2].upper()])


def parse_count(value: object) -> object:
    """Turn ``"8k"`` (8,000) or ``"8K"`` (8,192) into a number, as vLLM reads token counts."""
    if not isinstance(value, str):
        return value
    match = _NUMBER_AND_UNIT.fullmatch(value)
    if match is None or match[2] not in _COUNT_UNITS:
        raise ValueError(f"{value!r} is not a count; write a number, or one like 8k (8,000) or 8K (8,192)")
    return int(float(match[1]) * _COUNT_UNITS[match[2]])


def format_bytes(num_bytes: float) -> str:
    """Write a size for people: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"
