"""A server in a process of its own that answers with delays that a test chooses, and notes when it really sent what.

Its clock is ``time.perf_counter``, as the client's; what it notes is therefore what the client should have measured.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

CHAT_OVERHEAD = 3


@dataclass
class Schedule:
    """What the server does with a request for an answer.

    Attributes:
        first_s, gap_s: seconds to the first piece, and between two pieces.
        num_chunks, tokens_per_chunk: pieces of an answer, and what its usage counts for each.
        errors: what goes wrong, by the index of the request: an HTTP status, or ``close`` (no answer), ``cut`` (the
            connection ends after the first piece), ``event`` (an error event after it), ``end`` (the answer ends
            without a reason) or ``hang``.
        splits: write each event in two parts, with a pause between.
        refused_field: a field of requests that is answered with 400.
        has_tokenizer: answer ``/tokenize``: a word is a token, and a chat template adds three.
        miscounts: tokens that the usage says there are too many.
    """

    first_s: float = 0.0
    gap_s: float = 0.0
    num_chunks: int = 4
    tokens_per_chunk: int = 1
    errors: dict[str, str | int] = field(default_factory=dict)
    splits: bool = True
    has_usage: bool = True
    refused_field: str | None = None
    has_tokenizer: bool = True
    miscounts: int = 0
    metrics: str | None = None
    keeps_alive: bool = True


@dataclass
class Seen:
    """One request as the server saw it; times are of ``perf_counter``."""

    index: int
    path: str
    body: dict[str, Any]
    received_at: float
    connection: int
    headers: dict[str, str]
    chunk_times: list[float] = field(default_factory=list)
    finished_at: float = 0.0


class KnownDelays:
    """The server's process; use it as a context manager.

    Attributes:
        url: where it listens.
    """

    url: str

    def __enter__(self) -> KnownDelays:
        root = Path(__file__).parent.parent.parent
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.known_delays"], stdout=subprocess.PIPE, cwd=root, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def play(self, schedule: Schedule) -> None:
        """Answer like this from now on, and forget what was seen."""
        httpx.post(f"{self.url}/schedule", json=asdict(schedule), trust_env=False).raise_for_status()

    def seen(self) -> list[Seen]:
        """Return the requests for answers since ``play``, in the order in which they came."""
        return [Seen(**entry) for entry in httpx.get(f"{self.url}/seen", trust_env=False).json()]

    @property
    def max_concurrency(self) -> int:
        """The most requests that were under way at one moment since ``play``."""
        most: int = httpx.get(f"{self.url}/max_concurrency", trust_env=False).json()
        return most


class _Server:
    def __init__(self) -> None:
        self._restart(Schedule())
        self._num_connections = 0

    def _restart(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._seen: list[Seen] = []
        self._under_way = self._max_under_way = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection, self._num_connections = self._num_connections, self._num_connections + 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request_line, *lines = head.decode().strip().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines)
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                received_at = time.perf_counter()
                path = request_line.split()[1]
                if not path.endswith("/completions"):
                    self._answer_plainly(writer, path, json.loads(content) if content else {})
                    continue
                seen = Seen(len(self._seen), path, json.loads(content), received_at, connection, headers)
                self._seen.append(seen)
                self._under_way += 1
                self._max_under_way = max(self._max_under_way, self._under_way)
                try:
                    await self._answer(writer, seen)
                finally:
                    self._under_way -= 1
                if not self._schedule.keeps_alive:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    def _answer_plainly(self, writer: asyncio.StreamWriter, path: str, body: dict[str, Any]) -> None:
        if path == "/schedule":
            self._restart(Schedule(**body))
        answers: dict[str, Any] = {
            "/schedule": {},
            "/seen": [asdict(seen) for seen in self._seen if seen.finished_at],
            "/max_concurrency": self._max_under_way,
            "/v1/models": {"data": [{"id": "known-delays"}]},
        }
        if self._schedule.has_tokenizer:
            answers["/tokenize"] = {"tokens": _token_ids(body)}
        if self._schedule.metrics is not None and path == "/metrics":
            _write(writer, 200, self._schedule.metrics.encode())
        elif path in answers:
            _write(writer, 200, json.dumps(answers[path]).encode())
        else:
            _write(writer, 404, b'{"detail": "Not Found"}')

    async def _answer(self, writer: asyncio.StreamWriter, seen: Seen) -> None:
        schedule = self._schedule
        error = schedule.errors.get(str(seen.index))
        refused = schedule.refused_field
        if refused is not None and refused in seen.body:
            message = f"Unrecognized request argument supplied: {refused}"
            _write(writer, 400, json.dumps({"error": {"message": message}}).encode())
        elif isinstance(error, int):
            _write(writer, error, json.dumps({"error": {"message": f"failure {seen.index}"}}).encode())
        elif error == "close":
            writer.close()
        elif error == "hang":
            await asyncio.sleep(60)
        elif seen.body.get("stream"):
            await self._stream(writer, seen, error)
        else:
            await asyncio.sleep(schedule.first_s + schedule.gap_s * (schedule.num_chunks - 1))
            text = " ".join(["word"] * schedule.num_chunks * schedule.tokens_per_chunk)
            choice = {"message": {"content": text}, "finish_reason": "length"}
            body = {"choices": [choice], "usage": self._usage(seen)}
            _write(writer, 200, json.dumps(body).encode())
        seen.finished_at = time.perf_counter()

    async def _stream(self, writer: asyncio.StreamWriter, seen: Seen, error: str | None) -> None:
        schedule = self._schedule
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        is_chat = "messages" in seen.body
        if is_chat:
            await self._send(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for number in range(schedule.num_chunks):
            await asyncio.sleep(schedule.gap_s if number else schedule.first_s)
            text = " word" * schedule.tokens_per_chunk
            choice = {"delta": {"content": text}} if is_chat else {"text": text}
            seen.chunk_times.append(await self._send(writer, {"choices": [choice]}))
            if error == "cut":
                writer.transport.abort()
                return
            if error == "event":
                await self._send(writer, {"error": {"message": "the engine ended"}})
                break
            if error == "end":
                break
        else:
            end = {"delta": {}, "finish_reason": "length"} if is_chat else {"text": "", "finish_reason": "length"}
            await self._send(writer, {"choices": [end]})
            if schedule.has_usage and (seen.body.get("stream_options") or {}).get("include_usage"):
                await self._send(writer, {"choices": [], "usage": self._usage(seen)})
            _write_chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")

    async def _send(self, writer: asyncio.StreamWriter, event: dict[str, Any]) -> float:
        """Send an event, in two parts if events are to be split, and return when its end was sent."""
        content = f"data: {json.dumps(event)}\n\n".encode()
        if self._schedule.splits:
            middle = len(content) // 2
            _write_chunk(writer, content[:middle])
            await asyncio.sleep(0.001)
            content = content[middle:]
        at = time.perf_counter()
        _write_chunk(writer, content)
        return at

    def _usage(self, seen: Seen) -> dict[str, Any]:
        schedule = self._schedule
        return {
            "prompt_tokens": len(_token_ids(seen.body)) + schedule.miscounts,
            "completion_tokens": schedule.num_chunks * schedule.tokens_per_chunk,
            "prompt_tokens_details": {"cached_tokens": 1},
        }


def _token_ids(body: dict[str, Any]) -> list[int]:
    if isinstance(body.get("prompt"), list):
        return list(body["prompt"])
    texts = (
        [body["prompt"]] if "prompt" in body else [_text(message["content"]) for message in body.get("messages", [])]
    )
    words = [word for text in texts for word in text.split()]
    return [1] * (CHAT_OVERHEAD if "messages" in body else 0) + [hash(word) % 1000 for word in words]


def _text(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else " ".join(part["text"] for part in content)


def _write(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)


def _write_chunk(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(content), content))


async def _main() -> None:
    server = await asyncio.start_server(_Server().connected, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
