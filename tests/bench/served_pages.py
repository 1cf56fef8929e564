"""A server of fixed pages, for tests of what reads a model server's metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def metrics(prefix: str = "vllm:", **totals: float) -> str:
    """Metrics as vLLM shows them; histograms have their observations between 0.1 and 0.2 seconds."""
    known = {"num_requests_running": 2, "num_requests_waiting": 1, **totals}
    lines = [f'{prefix}{name}{{model_name="m"}} {value}' for name, value in known.items()]
    for name in ("time_to_first_token_seconds", "time_per_output_token_seconds"):
        for le, part in (("0.1", 0), ("0.2", 1), ("+Inf", 1)):
            lines.append(f'{prefix}{name}_bucket{{model_name="m",le="{le}"}} {part * totals.get("observations", 0)}')
    return "\n".join(lines) + "\n"


@dataclass
class Pages:
    """Pages of a server, the key that it wants, and the paths that it was asked for."""

    url: str = ""
    key: str | None = None
    pages: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve_pages(**pages: str) -> Iterator[Pages]:
    """Serve pages by the last part of their path."""
    state = Pages(pages=pages)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            state.asked.append(self.path)
            page = state.pages.get(self.path.partition("?")[0].rpartition("/")[2])
            is_known = state.key is None or self.headers.get("authorization") == f"Bearer {state.key}"
            content = (page or "").encode()
            self.send_response((200 if page is not None else 404) if is_known else 401)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
