"""Server-sent events from bytes that may be split anywhere (WHATWG HTML, section 9.2; lines end with LF or CR LF)."""

from __future__ import annotations

from collections.abc import Iterator


class EventParser:
    """Puts the data of events together; comments and other fields are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, body: bytes) -> Iterator[bytes]:
        """Yield the data of each event that is complete with these bytes."""
        lines = (self._rest + body if self._rest else body).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and self._data:
                yield self._take()

    def end(self) -> Iterator[bytes]:
        """Yield the data of an event that the end of the stream completes, as lenient clients do."""
        yield from self.feed(b"\n\n")

    def _take(self) -> bytes:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        return data
