"""A Hugging Face hub on localhost: a few repositories, and the answers for those that cannot be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    """``octavo/tiny`` has the files of a directory and a branch ``v2``.

    ``octavo/gated`` is hidden until its licence is accepted; ``octavo/licensed`` can be seen, its files cannot;
    ``octavo/broken`` is listed, but its files are gone.
    """

    protocol_version = "HTTP/1.1"
    files: Path

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/api/models/octavo/gated"):
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if path.startswith("/octavo/licensed/resolve/"):
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if path.startswith("/api/"):
            path = path.replace("octavo/licensed", "octavo/tiny").replace("octavo/broken", "octavo/tiny")
        if path.startswith("/api/models/octavo/tiny/revision/") and not path.endswith(("/main", "/v2", COMMIT)):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path.startswith("/api/models/octavo/tiny/tree/"):
            entries = [{"type": "file", "path": name, "size": len(data)} for name, data in self._contents().items()]
            entries = [{**entry, "oid": self._etag(self._contents()[entry["path"]])} for entry in entries]
            return self._send(200, json.dumps(entries).encode(), {})
        if path.startswith("/api/models/octavo/tiny"):
            siblings = [{"rfilename": name} for name in self._contents()]
            info = {"id": "octavo/tiny", "modelId": "octavo/tiny", "sha": COMMIT, "siblings": siblings}
            return self._send(200, json.dumps(info).encode(), {})
        data = self._contents().get(path.removeprefix(f"/octavo/tiny/resolve/{COMMIT}/"))
        if data is not None:
            return self._send(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{self._etag(data)}"'})
        return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _contents(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.files)): path.read_bytes() for path in self.files.rglob("*") if path.is_file()
        }

    @staticmethod
    def _etag(data: bytes) -> str:
        return hashlib.sha1(data, usedforsecurity=False).hexdigest()

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@contextmanager
def fake_hub(files: Path) -> Iterator[str]:
    """Serve ``files`` as ``octavo/tiny`` and yield the hub's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": files}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
