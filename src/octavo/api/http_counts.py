"""Counts HTTP requests by route and status. Pure ASGI, around everything that may answer."""

from __future__ import annotations

import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.api.middleware import OPEN_PATHS
from octavo.observe.http_metrics import HTTPMetrics

UNCOUNTED_PATHS = OPEN_PATHS | {"/metrics"}
"""Probes and scrapes come by the clock and say nothing of the load; vLLM leaves them out too."""
_CLIENT_GONE = 499  # what is left if nothing was answered
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class CountRequests:
    """Tells ``metrics`` of each request.

    Args:
        routes: patterns of the routes: a request that was answered before it came to its route is counted there if its
            path is one, and else under ``none``. Clients can thus not make new series.
    """

    def __init__(self, app: ASGIApp, metrics: HTTPMetrics, routes: Iterable[str]) -> None:
        self.app = app
        self._metrics = metrics
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNCOUNTED_PATHS:
            await self.app(scope, receive, send)
            return
        status = _CLIENT_GONE
        started_at = time.monotonic()

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_look)
        except Exception:
            status = 500
            raise
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.observe(self._handler(scope), method, status, time.monotonic() - started_at)

    def _handler(self, scope: Scope) -> str:
        route = scope.get("route")
        if route is not None:
            return str(route.path_format)
        return scope["path"] if scope["path"] in self._routes else "none"
