"""An engine process that imports what it will need before anybody knows what it will serve."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

# Threads that spin at the end of a parallel loop take the core from the thread that they wait for as soon as anything
# else runs on the machine, and this process always does. What the user has set wins.
_PASSIVE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
# Each step asks for the same large tensors. What glibc cuts off to align one would go to a cache, and the memory of the
# freed tensor would be too small for the next of its size; without that cache a prefill takes two thirds of the memory.
# Large tensors stay in the heap (up to 32 MiB, the most that glibc allows), and so does what was freed at its top: to
# have pages made anew takes longer than some kernels.
_STEADY_HEAP = {
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mmap_threshold=33554432"
    ":glibc.malloc.trim_threshold=268435456"
}


def engine_environment() -> dict[str, str]:
    """Return the environment variables of an engine process."""
    return _PASSIVE_WAITING | _STEADY_HEAP | os.environ


async def start_engine_process() -> Process:
    """Start a process that waits for its launch, a line on standard input, and ends when the pipe closes."""
    # A session of its own: Ctrl-C in a terminal is for the parent alone, which then ends the engine in good order.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "octavo.engine.process",
        stdin=PIPE,
        start_new_session=True,
        env=engine_environment(),
    )


@asynccontextmanager
async def standby_engine() -> AsyncIterator[Process]:
    """Start a process for an engine that is launched within the context; at its end the process is gone."""
    process = await start_engine_process()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # the engine was launched, and has ended
            process.kill()
        await process.wait()
