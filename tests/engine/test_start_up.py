"""What a process makes while it starts is none of the collector's business, then and later."""

from __future__ import annotations

import gc

import pytest

from octavo.engine.start_up import uncollected


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
