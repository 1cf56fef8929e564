from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from octavo.api.disconnect import merge, run_until_disconnect
from octavo.api.errors import ClientGoneError


async def never_disconnects() -> dict[str, str]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_work_that_ends_first_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert await run_until_disconnect(never_disconnects, work()) == 7


async def test_work_is_cancelled_and_has_ended_when_the_client_goes() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async def gone() -> dict[str, str]:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGoneError):
        await run_until_disconnect(gone, work())
    assert ended.is_set()


async def test_an_error_of_the_work_is_passed_on() -> None:
    async def work() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await run_until_disconnect(never_disconnects, work())


class Stream:
    def __init__(self, *items: int, error: Exception | None = None, endless: bool = False) -> None:
        self.items, self.error, self.endless, self.closed = items, error, endless, False

    async def run(self) -> AsyncGenerator[int, None]:
        try:
            for item in self.items:
                yield item
                await asyncio.sleep(0)
            if self.error:
                raise self.error
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def test_merged_streams_give_every_item_with_its_origin() -> None:
    streams = [Stream(1, 2), Stream(), Stream(3)]
    items = [item async for item in merge([stream.run() for stream in streams])]
    assert sorted(items) == [(0, 1), (0, 2), (2, 3)]


async def test_closing_a_merge_closes_its_streams() -> None:
    streams = [Stream(1, endless=True), Stream(2, endless=True)]
    merged = merge([stream.run() for stream in streams])
    await anext(merged)
    await merged.aclose()
    assert all(stream.closed for stream in streams)


async def test_an_error_of_one_stream_ends_all() -> None:
    streams = [Stream(1, error=ValueError("broken")), Stream(endless=True)]
    with pytest.raises(ValueError, match="broken"):
        async for _ in merge([stream.run() for stream in streams]):
            pass
    assert all(stream.closed for stream in streams)
