"""Pages of a KV cache are made ahead: they are there before they are written to, and no number changes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from octavo import AsyncLLM
from octavo.config import EngineConfig
from octavo.engine import kv_cache_pages
from octavo.engine.kv_cache_pages import KVCachePages
from octavo.models.forward_context import LayerKVCache

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux makes pages ahead")

_MIB = 2**20
_TIMEOUT_S = 60

# In a process of its own, whose memory nothing else changes.
_MAKE = """
import sys
import torch
from octavo.engine import kv_cache_pages
from octavo.engine.kv_cache_pages import KVCachePages
from octavo.models.forward_context import LayerKVCache

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

kv_cache_pages._MOST_BYTES = int(sys.argv[1]) << 20
caches = LayerKVCache.allocate(6, (300, 16, 8, 64), torch.bfloat16, torch.device("cpu"))
pages = KVCachePages(caches)
seen = [resident_mib()]
while pages.make_some():
    pass
seen.append(resident_mib())
for cache in caches:
    cache.key.fill_(1)
    cache.value.fill_(2)
seen.append(resident_mib())
print(*seen)
"""


def resident_mib(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 // _MIB


def wait_until_resident(pid: int, least_mib: int) -> None:
    end = time.monotonic() + _TIMEOUT_S
    while resident_mib(pid) < least_mib:
        assert time.monotonic() < end, f"{resident_mib(pid)} MiB"
        time.sleep(0.05)


@pytest.mark.parametrize(("most", "made"), [(1024, 56), (24, 24)])
def test_pages_are_there_before_they_are_written_to(most: int, made: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MAKE, str(most)], capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
    )
    before, after, full = map(int, done.stdout.split())
    assert made - 4 <= after - before <= made + 28  # up to one more huge page for each of the twelve parts
    assert full - after <= 56 - made + 4


def test_no_number_changes() -> None:
    caches = LayerKVCache.allocate(3, (40, 16, 8, 64), torch.bfloat16, torch.device("cpu"))
    for cache in caches:
        cache.key.normal_()
        cache.value.normal_()
    expected = [(cache.key.clone(), cache.value.clone()) for cache in caches]
    pages = KVCachePages(caches)
    while pages.make_some():
        pass
    assert not pages.make_some()
    for cache, (key, value) in zip(caches, expected, strict=True):
        assert torch.equal(cache.key, key)
        assert torch.equal(cache.value, value)


def test_a_system_that_cannot_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    caches = LayerKVCache.allocate(1, (2000, 16, 8, 64), torch.bfloat16, torch.device("cpu"))
    monkeypatch.setattr(kv_cache_pages, "_MADV_POPULATE_WRITE", 9999)
    pages = KVCachePages(caches)
    assert not pages.make_some()
    assert not pages.make_some()


@pytest.mark.asyncio
async def test_an_engine_makes_them_while_it_waits(checkpoint: Path) -> None:
    llm = AsyncLLM(EngineConfig(model=str(checkpoint), kv_cache_memory_bytes="512MiB", cpu_threads=1))
    await llm.start()
    try:
        pid = llm.engine_process_id
        assert pid is not None
        await asyncio.to_thread(wait_until_resident, pid, 512)  # much more than what torch and the small model take
    finally:
        await llm.shutdown()
