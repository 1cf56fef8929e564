"""A small HTTP/1.1 client for measuring: keep-alive connections, and times taken when bytes arrive.

It exists because the client of a load test must not be what is measured: an answer goes from the socket to its reader
in one call, with the time at which its bytes came, and nothing is scheduled in between.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import httptools

from octavo.errors import ConfigError
from octavo.version import __version__

BodyReader = Callable[[bytes, float], None]
"""Takes a part of a body and the time (``perf_counter``) at which it came."""

_MAX_KEPT_BODY_BYTES = 64 * 2**20
_DEFAULT_PORTS = {"http": 80, "https": 443}
_STALE_KINDS = ("connection_closed", "connection_reset")


class TransferError(Exception):
    """A request got no whole answer.

    Attributes:
        kind: ``connection_refused``, ``connection_reset``, ``connection_closed``, ``connection_dns``,
            ``connection_tls``, ``connection``, ``timeout`` or ``protocol``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Exchange:
    """One request and its answer; times are of ``perf_counter``, 0 before they are known.

    Attributes:
        sent_at: when its first byte was written.
        connect_s: what a new connection cost before that.
        body: of an answer that no reader took.
        finished_at: when the last byte came.
    """

    reader: BodyReader | None = None
    sent_at: float = 0.0
    connect_s: float = 0.0
    finished_at: float = 0.0
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    has_begun: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class _Connection(asyncio.Protocol):
    """One connection, with at most one exchange at a time."""

    def __init__(self, idle: list[_Connection]) -> None:
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._done: asyncio.Future[None] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._now = 0.0
        self._ends_with_connection = False

    async def perform(self, request: bytes, exchange: Exchange) -> None:
        """Send a request and wait for the end of its answer; afterwards the connection is idle or closed."""
        assert self._transport is not None  # connection_made comes before create_connection returns
        self._exchange = exchange
        self._done = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        exchange.sent_at = perf_counter()
        self._transport.write(request)
        try:
            await self._done
        finally:
            # Cancelled. (After the end of an answer the connection may already have its next exchange.)
            if self._exchange is exchange:
                self._exchange = None
                self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit from it

    def data_received(self, data: bytes) -> None:
        """Take the time, then parse."""
        self._now = perf_counter()
        if self._exchange is None or self._parser is None:
            self.close()
            return
        self._exchange.has_begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(TransferError("protocol", "the server switched to another protocol"))
        except httptools.HttpParserCallbackError as error:
            # The parser wraps what a callback, and so the reader, raised.
            self._fail(error.__context__ or error)
        except httptools.HttpParserError as error:
            self._fail(TransferError("protocol", f"the answer is not HTTP/1.1: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        """End the answer that only the end of the connection ends; any other has failed."""
        if self in self._idle:
            self._idle.remove(self)
        if self._exchange is None:
            return
        if error is None and self._ends_with_connection:
            self._now = perf_counter()
            self._finish()
        elif error is None:
            place = "in the middle of its answer" if self._exchange.has_begun else "without an answer"
            self._fail(TransferError("connection_closed", f"the server closed the connection {place}"))
        else:
            self._fail(_as_transfer_error(error))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if self._exchange is not None:
            self._exchange.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Keep the status."""
        if self._exchange is None or self._parser is None:
            return
        self._exchange.status = self._parser.get_status_code()
        headers = self._exchange.headers
        self._ends_with_connection = b"content-length" not in headers and b"transfer-encoding" not in headers

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on."""
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.reader is not None and exchange.is_success:
            exchange.reader(body, self._now)
        elif len(exchange.body) + len(body) <= _MAX_KEPT_BODY_BYTES:
            exchange.body += body
        else:
            raise TransferError("protocol", f"the answer is longer than {_MAX_KEPT_BODY_BYTES} bytes")

    def on_message_complete(self) -> None:
        """End the answer, unless it only announced one (1xx)."""
        if self._exchange is None:
            return
        if self._exchange.status < 200:
            self._exchange.headers.clear()
            return
        self._finish()

    def _finish(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self._parser is not None and self._transport is not None:
            exchange.finished_at = self._now
            if self._parser.should_keep_alive() and not self._ends_with_connection:
                self._idle.append(self)
            else:
                self.close()
        self._settle(None)

    def _fail(self, error: BaseException) -> None:
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()
        self._settle(error)

    def _settle(self, error: BaseException | None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


class HttpClient:
    """A pool of connections to one server.

    Args:
        base_url: ``http(s)://host[:port][/path]``; the paths of requests are relative to it.
        headers: sent with every request.
        timeout_s: for one request, connecting included.

    Raises:
        ConfigError: the URL is not of that form, or a header has a line break.
    """

    def __init__(self, base_url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 600.0) -> None:
        try:
            url = urlsplit(base_url)
            port = url.port
        except ValueError as error:
            raise ConfigError(f"{base_url!r} is not a URL: {error}") from error
        if url.scheme not in _DEFAULT_PORTS or not url.hostname:
            raise ConfigError(f"{base_url!r} is not a URL of the form http://host:port or https://host")
        self.base_url = base_url
        self._host = url.hostname
        self._port = port or _DEFAULT_PORTS[url.scheme]
        self._path = url.path.rstrip("/")
        self._ssl = ssl.create_default_context() if url.scheme == "https" else None
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []
        self._addresses: list[str] = []
        self._head = _head_lines({"Host": url.netloc.rpartition("@")[2], **_DEFAULT_HEADERS, **(headers or {})})

    async def request(
        self, method: str, path: str, body: bytes | None = None, *, exchange: Exchange | None = None
    ) -> Exchange:
        """Send a request and return when its answer is complete.

        Args:
            body: JSON.
            exchange: filled while the answer comes; its reader, if it has one, gets the body of a 2xx answer.

        Raises:
            TransferError: there was no whole answer. A connection that the server had meanwhile closed is no error:
                the request is sent again on a new one, once, if no byte of an answer had come.
        """
        exchange = exchange or Exchange()
        content = b"" if body is None else b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        head = f"{method} {self._path}{path} HTTP/1.1\r\n".encode()
        request = head + self._head + content + b"\r\n" + (body or b"")
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._idle:
                    try:
                        await self._idle.pop().perform(request, exchange)
                    except TransferError as error:
                        if exchange.has_begun or error.kind not in _STALE_KINDS:
                            raise
                    else:
                        return exchange
                await (await self._connect(exchange)).perform(request, exchange)
        except TimeoutError:
            raise TransferError("timeout", f"no whole answer within {self._timeout_s:g} s") from None
        return exchange

    async def close(self) -> None:
        """Close the idle connections."""
        for connection in list(self._idle):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the transports close their sockets

    async def _connect(self, exchange: Exchange) -> _Connection:
        started = perf_counter()
        if not self._addresses:
            self._addresses = await self._resolve()
        failure: TransferError | None = None
        for address in list(self._addresses):
            try:
                connection = await self._connect_to(address)
            except (OSError, ssl.SSLError) as error:
                failure = _as_transfer_error(error)
                continue
            if failure is not None:  # the next connection begins with the address that works
                self._addresses.remove(address)
                self._addresses.insert(0, address)
            exchange.connect_s = perf_counter() - started
            return connection
        assert failure is not None  # there is at least one address
        raise failure

    async def _connect_to(self, address: str) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self._idle),
            address,
            self._port,
            ssl=self._ssl,
            server_hostname=self._host if self._ssl else None,
        )
        return connection

    async def _resolve(self) -> list[str]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise TransferError("connection_dns", f"{self._host}: {error.strerror or error}") from error
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


_DEFAULT_HEADERS = {"User-Agent": f"octavo-bench/{__version__}", "Accept": "*/*"}


def _head_lines(headers: Mapping[str, str]) -> bytes:
    for name, value in headers.items():
        if not name or any(char in "\r\n" for char in name + value) or ":" in name or " " in name:
            raise ConfigError(f"{name!r} cannot be sent as a header: write it as NAME: VALUE in one line")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def _as_transfer_error(error: BaseException) -> TransferError:
    return TransferError(_error_kind(error), str(error) or type(error).__name__)


def _error_kind(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection_refused"
    if isinstance(error, ssl.SSLError):
        return "connection_tls"
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return "connection_reset"
    return "connection"
