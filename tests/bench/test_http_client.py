"""The client against servers that are played byte by byte."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from octavo.bench.http_client import Exchange, HttpClient, TransferError
from octavo.errors import ConfigError

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"


class Played:
    """What a played server does with each connection: a list of answers, one a request, then it closes.

    An answer is a list of parts, written one by one; an empty list closes without an answer, None never answers.
    """

    def __init__(self, connections: Sequence[Sequence[list[bytes] | None]], context: ssl.SSLContext | None) -> None:
        self.connections = list(connections)
        self.context = context
        self.requests: list[bytes] = []
        self.num_connections = 0
        self.url = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = self.connections[min(self.num_connections, len(self.connections) - 1)]
        self.num_connections += 1
        try:
            for answer in answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                if answer is None:
                    await asyncio.sleep(60)
                for part in answer or []:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.002)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def played(
    *connections: Sequence[list[bytes] | None], context: ssl.SSLContext | None = None
) -> AsyncIterator[Played]:
    server = Played(connections, context)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0, ssl=context)
    scheme = "https" if context else "http"
    server.url = f"{scheme}://localhost:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()


async def fail(client: HttpClient) -> TransferError:
    with pytest.raises(TransferError) as failed:
        await client.request("GET", "/")
    return failed.value


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_body_is_read_in_parts_of_any_size(size: int) -> None:
    for answer, body in ((_OK, b"ok"), (_CHUNKED, b"abcdefg")):
        parts = [answer[at : at + size] for at in range(0, len(answer), size)]
        async with played([parts]) as server:
            exchange = await HttpClient(server.url).request("POST", "/path", b"{}")
            assert bytes(exchange.body) == body
            assert server.requests[0].startswith(b"POST /path HTTP/1.1\r\nHost: localhost:")
            assert server.requests[0].endswith(b"\r\nContent-Length: 2\r\n\r\n{}")


async def test_reader_gets_each_part_with_its_time() -> None:
    head, body = _CHUNKED.split(b"\r\n\r\n", 1)
    got: list[tuple[bytes, float]] = []
    async with played([[head + b"\r\n\r\n", body[:6], body[6:]]]) as server:
        exchange = Exchange(reader=lambda part, at: got.append((part, at)))
        await HttpClient(server.url).request("GET", "/", exchange=exchange)
    assert [part for part, _ in got] == [b"abc", b"defg"]
    assert exchange.sent_at < got[0][1] < got[1][1] <= exchange.finished_at
    assert exchange.connect_s > 0


async def test_reader_gets_no_body_of_an_error() -> None:
    async with played([[b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy"]]) as server:
        exchange = Exchange(reader=lambda part, at: pytest.fail("an error was read as an answer"))
        await HttpClient(server.url).request("GET", "/", exchange=exchange)
    assert (exchange.status, bytes(exchange.body), exchange.is_success) == (503, b"busy", False)


async def test_connection_is_used_again_and_others_are_opened_when_needed() -> None:
    async with played([[_OK]] * 8) as server:
        client = HttpClient(server.url)
        first = await client.request("GET", "/")
        again = await client.request("GET", "/")
        assert (first.connect_s > 0, again.connect_s) == (True, 0.0)
        assert server.num_connections == 1
        await asyncio.gather(*(client.request("GET", "/") for _ in range(3)))
        assert server.num_connections == 3
        await client.close()


async def test_many_requests_at_once_over_few_connections_all_get_their_answer() -> None:
    async with played([[_OK]] * 100) as server:
        client = HttpClient(server.url, timeout_s=5)
        limit = asyncio.Semaphore(4)

        async def ask() -> bytes:
            async with limit:
                return bytes((await client.request("GET", "/")).body)

        assert await asyncio.gather(*(ask() for _ in range(60))) == [b"ok"] * 60
        await client.close()


async def test_connection_that_the_server_closed_meanwhile_is_replaced_once() -> None:
    async with played([[_OK], []], [[_OK]]) as server:
        client = HttpClient(server.url)
        await client.request("GET", "/")
        assert (await client.request("GET", "/")).body == b"ok"
        assert server.num_connections == 2


async def test_request_is_not_repeated_on_a_new_connection_or_after_the_first_byte() -> None:
    async with played([[]]) as server:
        failed = await fail(HttpClient(server.url))
        assert (failed.kind, str(failed)) == ("connection_closed", "the server closed the connection without an answer")
        assert server.num_connections == 1
    async with played([[_OK], [_OK[:-1]]]) as server:
        client = HttpClient(server.url)
        await client.request("GET", "/")
        failed = await fail(client)
        assert failed.kind == "connection_closed"
        assert "in the middle of its answer" in str(failed)
        assert len(server.requests) == 2


async def test_answer_without_a_length_ends_with_the_connection() -> None:
    async with played([[b"HTTP/1.1 200 OK\r\n\r\nall of", b" it"]]) as server:
        client = HttpClient(server.url)
        assert (await client.request("GET", "/")).body == b"all of it"
        assert (await client.request("GET", "/")).body == b"all of it"
        assert server.num_connections == 2


async def test_connection_that_is_to_be_closed_is_not_used_again() -> None:
    closing = _OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    async with played([[closing], [_OK]]) as server:
        client = HttpClient(server.url)
        await client.request("GET", "/")
        await client.request("GET", "/")
        assert server.num_connections == 2


async def test_interim_answer_is_passed_over() -> None:
    async with played([[b"HTTP/1.1 100 Continue\r\n\r\n", _OK]]) as server:
        exchange = await HttpClient(server.url).request("GET", "/")
        assert (exchange.status, exchange.body) == (200, b"ok")


async def test_late_answer_is_a_timeout_and_its_connection_is_given_up() -> None:
    async with played([None], [[_OK]]) as server:
        client = HttpClient(server.url, timeout_s=0.1)
        failed = await fail(client)
        assert (failed.kind, str(failed)) == ("timeout", "no whole answer within 0.1 s")
        assert (await client.request("GET", "/")).body == b"ok"


async def test_what_is_not_http_is_told() -> None:
    async with played([[b"SSH-2.0-server\r\n"]]) as server:
        assert (await fail(HttpClient(server.url))).kind == "protocol"


async def test_error_in_a_reader_is_not_hidden() -> None:
    def read(part: bytes, at: float) -> None:
        raise RuntimeError("a mistake")

    async with played([[_OK]]) as server:
        with pytest.raises(RuntimeError, match="a mistake"):
            await HttpClient(server.url).request("GET", "/", exchange=Exchange(reader=read))


@pytest.mark.parametrize(
    ("url", "kind"),
    [("http://127.0.0.1:9", "connection_refused"), ("http://nowhere.invalid", "connection_dns")],
)
async def test_server_that_cannot_be_reached_is_told_by_kind(url: str, kind: str) -> None:
    assert (await fail(HttpClient(url))).kind == kind


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody has signed, and its key."""
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        *subject,
        "-out",
        files[0],
        "-keyout",
        files[1],
    ]
    subprocess.run(command, check=True, capture_output=True)
    return files


async def test_https_is_spoken_with_a_certificate_that_is_trusted_and_refused_without(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with played([[_OK]], context=context) as server:
        assert (await fail(HttpClient(server.url))).kind == "connection_tls"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert (await HttpClient(server.url).request("GET", "/")).body == b"ok"


@pytest.mark.parametrize(
    "make",
    [
        lambda: HttpClient("127.0.0.1:8000"),
        lambda: HttpClient("ftp://host"),
        lambda: HttpClient("http://host:port"),
        lambda: HttpClient("http://host", headers={"X": "a\r\nY: b"}),
        lambda: HttpClient("http://host", headers={"X Y": "a"}),
    ],
)
def test_wrong_url_or_header_is_refused(make: Callable[[], HttpClient]) -> None:
    with pytest.raises(ConfigError):
        make()
