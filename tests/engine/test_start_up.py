"""What a process makes while it starts is none of the collector's business, then and later."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from octavo.engine.start_up import give_back_freed_memory, uncollected


@pytest.fixture(autouse=True)
def unfrozen():
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_meanwhile_and_what_was_made_is_left_alone_afterwards():
    with uncollected():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(made)
    assert not any(found is made for found in gc.get_objects())


def test_a_failed_start_is_collected_again_and_a_switched_off_collector_stays_off():
    with pytest.raises(ValueError, match="wrong"), uncollected():
        raise ValueError("wrong")
    assert gc.isenabled()
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


@pytest.mark.skipif(sys.platform != "linux", reason="how much a process holds is read from /proc")
def test_freed_memory_goes_back_to_the_system():
    held = [b"x" * 100_000 for _ in range(500)]
    kept = held[1::2]  # between the free pieces, so that libc does not give them back itself
    before = _resident_bytes()
    del held
    give_back_freed_memory()
    assert before - _resident_bytes() > 10_000_000
    assert len(kept) == 250


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
