"""A small OpenAI-compatible server whose answers a test writes down, and which keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ScriptedApi:
    """Answers of the server: lists of pieces to stream, or errors to give instead.

    The piece ``<crash>`` is an error in the middle of an answer, ``<wait>`` a wait until the test is over.
    """

    answers: list[list[str] | dict[str, Any]] = field(default_factory=list)
    key: str | None = None
    models: list[str] = field(default_factory=lambda: ["first", "second"])
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


@contextmanager
def scripted_api(**script: Any) -> Iterator[ScriptedApi]:
    """Run the server while the context is open."""
    api = ScriptedApi(**script)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self._allowed():
                self._send_json(200, {"object": "list", "data": [{"id": name} for name in api.models]})

        def do_POST(self) -> None:
            if not self._allowed():
                return
            api.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            answer = api.answers.pop(0)
            if isinstance(answer, dict):
                self._send_json(400, answer)
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for piece in answer:
                if piece == "<wait>":
                    over.wait()
                elif piece == "<crash>":
                    self._send_event({"error": {"message": "the engine ended"}})
                else:
                    self._send_event({"choices": [{"index": 0, "delta": {"content": piece}}]})
            with suppress(OSError):
                self.wfile.write(b"data: [DONE]\n\n")

        def _send_event(self, event: dict[str, Any]) -> None:
            with suppress(OSError):  # the client went away, as some tests want
                self.wfile.write(f": a comment\ndata: {json.dumps(event)}\n\n".encode())

        def _allowed(self) -> bool:
            if api.key is None or self.headers.get("authorization") == f"Bearer {api.key}":
                return True
            self._send_json(401, {"error": {"message": "the key is wrong"}})
            return False

        def _send_json(self, status: int, content: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
