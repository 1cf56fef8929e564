"""An engine process that waits for its launch: launched, not launched, and left alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from octavo import AsyncLLM, SamplingParams
from octavo.config import EngineConfig
from octavo.engine.standby import standby_engine, start_engine_process
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
