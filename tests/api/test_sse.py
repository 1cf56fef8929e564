from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from octavo.api import sse
from octavo.api.errors import answer_octavo_error
from octavo.api.sse import EventStream, event
from octavo.errors import EngineDeadError, OctavoError, QueueFullError


class Chunk(msgspec.Struct):
    text: str


async def get(*items: Chunk | Exception) -> httpx.Response:
    async def events() -> AsyncGenerator[bytes, None]:
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield event(item)

    app = FastAPI()

    @app.get("/")
    async def stream() -> Any:
        return EventStream(events())

    app.add_exception_handler(OctavoError, answer_octavo_error)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        return await http.get("/")


async def test_a_stream_ends_with_done() -> None:
    response = await get(Chunk("a"), Chunk("é\n"))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in response.headers
    assert response.text == 'data: {"text":"a"}\n\ndata: {"text":"é\\n"}\n\ndata: [DONE]\n\n'


async def test_an_error_before_the_first_event_is_an_http_error() -> None:
    response = await get(QueueFullError("full"))
    assert response.status_code == 503
    assert response.headers["retry-after"]


async def test_a_later_error_is_an_event_and_ends_the_stream() -> None:
    response = await get(Chunk("a"), EngineDeadError("gone"))
    assert response.status_code == 200
    first, error, done, end = response.text.split("\n\n")
    assert first == 'data: {"text":"a"}'
    assert msgspec.json.decode(error.removeprefix("data: "))["error"]["message"] == "gone"
    assert (done, end) == ("data: [DONE]", "")


async def test_an_unexpected_error_shows_no_inside(caplog: pytest.LogCaptureFixture) -> None:
    response = await get(Chunk("a"), RuntimeError("inside"))
    assert "inside" not in response.text
    assert "inside" in caplog.text


async def run(stream: EventStream, sent: asyncio.Queue[Any], *, gone: asyncio.Event) -> None:
    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.put_nowait(message)

    await stream({"type": "http"}, receive, send)


async def test_headers_do_not_wait_for_a_first_event_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_PATIENCE_BEFORE_HEADERS_S", 0.01)
    go_on = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        await go_on.wait()
        raise EngineDeadError("gone")
        yield b""

    sent: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.create_task(run(EventStream(events()), sent, gone=asyncio.Event()))
    assert (await sent.get())["type"] == "http.response.start"
    go_on.set()
    await running
    assert b"gone" in (await sent.get())["body"]


@pytest.mark.parametrize("num_before", [0, 1])
async def test_events_are_closed_when_the_client_goes(num_before: int) -> None:
    gone, closed = asyncio.Event(), asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(num_before):
                yield b"data: 1\n\n"
            gone.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    await run(EventStream(events()), asyncio.Queue(), gone=gone)
    assert closed.is_set()
