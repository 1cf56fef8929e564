"""A mailbox gives a slow reader everything, in one output."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from octavo.engine.output_mailbox import OutputMailbox
from octavo.engine.outputs import CompletionOutput, Logprob, RequestOutput
from octavo.errors import EngineDeadError


def output(*sequences: CompletionOutput, is_delta: bool = True, **fields: Any) -> RequestOutput:
    return RequestOutput("r", "prompt", [1], list(sequences), is_delta=is_delta, **fields)


def sequence(text: str, tokens: list[int], index: int = 0, **fields: Any) -> CompletionOutput:
    return CompletionOutput(index, text, tokens, **fields)


async def test_deltas_that_were_not_read_are_joined():
    mailbox = OutputMailbox()
    entries = [{7: Logprob(-0.5, 1, "a")}, {8: Logprob(-1.5, 2, "b")}]
    mailbox.put(output(sequence("a", [7], logprobs=[entries[0]], cumulative_logprob=-0.5)))
    last = sequence("b", [8], logprobs=[entries[1]], cumulative_logprob=-2.0, finish_reason="stop", stop_reason="x")
    mailbox.put(output(last, finished=True, num_cached_tokens=16))
    got = await mailbox.get()
    assert got.outputs == [
        sequence("ab", [7, 8], logprobs=entries, cumulative_logprob=-2.0, finish_reason="stop", stop_reason="x")
    ]
    assert (got.finished, got.num_cached_tokens) == (True, 16)


async def test_deltas_of_several_sequences_are_joined_each_with_its_own():
    mailbox = OutputMailbox()
    mailbox.put(output(sequence("b", [2], index=1)))
    mailbox.put(output(sequence("a", [1], index=0), sequence("c", [3], index=1)))
    mailbox.put(output(sequence("d", [4], index=0)))
    assert (await mailbox.get()).outputs == [sequence("ad", [1, 4], index=0), sequence("bc", [2, 3], index=1)]


async def test_a_cumulative_output_replaces_the_one_before():
    mailbox = OutputMailbox()
    mailbox.put(output(sequence("a", [1]), is_delta=False))
    mailbox.put(output(sequence("ab", [1, 2]), is_delta=False))
    assert (await mailbox.get()).outputs == [sequence("ab", [1, 2])]


async def test_what_was_read_does_not_come_again():
    mailbox = OutputMailbox()
    mailbox.put(output(sequence("a", [1])))
    assert (await mailbox.get()).outputs == [sequence("a", [1])]
    mailbox.put(output(sequence("b", [2])))
    assert (await mailbox.get()).outputs == [sequence("b", [2])]


async def test_a_reader_waits_for_the_next_output():
    mailbox = OutputMailbox()
    reading = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    assert not reading.done()
    mailbox.put(output(sequence("a", [1])))
    assert (await reading).outputs == [sequence("a", [1])]


async def test_an_error_comes_after_what_was_there_before():
    mailbox = OutputMailbox()
    mailbox.put(output(sequence("a", [1])))
    mailbox.fail(EngineDeadError("gone"))
    assert (await mailbox.get()).outputs == [sequence("a", [1])]
    with pytest.raises(EngineDeadError, match="gone"):
        await mailbox.get()


async def test_an_error_wakes_a_waiting_reader():
    mailbox = OutputMailbox()
    reading = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.fail(EngineDeadError("gone"))
    with pytest.raises(EngineDeadError, match="gone"):
        await reading
