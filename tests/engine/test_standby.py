"""An engine process that waits for its launch: launched, not launched, and left alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from octavo import AsyncLLM, SamplingParams
from octavo.config import EngineConfig
from octavo.engine.standby import engine_environment, standby_engine, start_engine_process
from octavo.errors import ModelError

TIMEOUT_S = 60


async def test_an_engine_is_launched_in_the_process_that_stands_by(checkpoint: Path):
    async with standby_engine() as standby:
        llm = AsyncLLM(EngineConfig(model=str(checkpoint), kv_cache_memory_bytes="8MiB", cpu_threads=1))
        await llm.start(standby)
        assert llm.engine_process_id == standby.pid
        params = SamplingParams(max_tokens=3, ignore_eos=True)
        *_, last = [output async for output in llm.generate({"prompt_token_ids": [1, 2, 3]}, params, "r")]
        assert len(last.outputs[0].token_ids) == 3
        await llm.shutdown()
        assert standby.returncode == 0


async def test_a_process_that_is_not_needed_is_gone_at_the_end():
    with pytest.raises(ModelError, match="no model"):
        async with standby_engine() as standby:
            raise ModelError("no model")
    assert standby.returncode is not None


async def test_a_process_whose_parent_is_gone_before_the_launch_ends():
    process = await start_engine_process()
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 1


# What a layer of a prefill asks for and frees, three times over, for steps of slightly different lengths.
_STEPS = """
import ctypes, resource

libc = ctypes.CDLL(None)
libc.free.argtypes = (ctypes.c_void_p,)

def new(num_bytes):
    address = ctypes.c_void_p()
    assert libc.posix_memalign(ctypes.byref(address), 64, ctypes.c_size_t(num_bytes)) == 0
    ctypes.memset(address, 1, num_bytes)
    return address

def step(num_tokens):
    hidden = new(4096 * num_tokens)
    for _ in range(3):
        merged = new(16384 * num_tokens)
        query, attended = new(8192 * num_tokens), new(8192 * num_tokens)
        output = new(4096 * num_tokens)
        for address in (merged, query, attended, hidden):
            libc.free(address)
        gated = new(12288 * num_tokens)
        hidden = new(4096 * num_tokens)
        libc.free(gated)
        libc.free(output)
    libc.free(hidden)

def num_faults_of(num_steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for index in range(num_steps):
        step(512 - index % 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def heap_bytes():
    line = next(line for line in open("/proc/self/maps") if line.endswith("[heap]\\n"))
    begin, end = line.split()[0].split("-")
    return int(end, 16) - int(begin, 16)

before = heap_bytes()
num_faults_of(8)
print(num_faults_of(8), heap_bytes() - before)
"""


@pytest.mark.skipif(os.confstr_names.get("CS_GNU_LIBC_VERSION") is None, reason="these settings are glibc's")
def test_tensors_of_later_steps_take_the_memory_of_earlier_ones(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    run = subprocess.run(
        [sys.executable, "-c", _STEPS], env=engine_environment(), check=True, capture_output=True, text=True
    )
    num_faults, num_bytes = map(int, run.stdout.split())
    assert num_faults < 100
    largest = 512 * (4096 + 16384 + 2 * 8192 + 4096)
    assert num_bytes < 1.2 * largest  # 1.6 times as much with the cache of scraps


@pytest.mark.skipif(sys.platform != "linux", reason="the variables of a process are read from /proc")
async def test_what_the_user_has_set_of_glibc_wins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    async with standby_engine() as standby:
        assert _environment_of(standby.pid)["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=1"


def _environment_of(process_id: int) -> dict[str, str]:
    variables = Path(f"/proc/{process_id}/environ").read_text().rstrip("\0").split("\0")
    return dict(variable.split("=", 1) for variable in variables)
