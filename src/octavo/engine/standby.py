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


async def start_engine_process() -> Process:
    """Start a process that waits for its launch, a line on standard input, and ends when the pipe closes."""
    # A session of its own: Ctrl-C in a terminal is for the parent alone, which then ends the engine in good order.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "octavo.engine.process",
        stdin=PIPE,
        start_new_session=True,
        env=_PASSIVE_WAITING | os.environ,
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
