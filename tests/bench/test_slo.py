"""Objectives as people write them."""

from __future__ import annotations

import pytest

from octavo.bench.slo import parse_slo
from octavo.bench.summary import Slo
from octavo.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("ttft:500ms,tpot:33ms", Slo(ttft_ms=500, tpot_ms=33)),
        ("e2e:1.5s", Slo(e2e_ms=1500)),
        (" itl : 40 , ttft : .5 s ", Slo(itl_ms=40, ttft_ms=500)),
    ],
)
def test_objectives_are_read(text: str, slo: Slo) -> None:
    assert parse_slo(text) == slo


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tfft:500ms", "did you mean ttft"),
        ("", "names no latency"),
        ("ttft", "needs a time above 0"),
        ("ttft:0ms", "needs a time above 0"),
        ("ttft:-5ms", "needs a time above 0"),
        ("ttft:5m", "needs a time above 0"),
        ("ttft:5ms,ttft:6ms", "ttft is there twice"),
    ],
)
def test_wrong_objectives_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_slo(text)
