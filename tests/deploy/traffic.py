"""A little traffic of every kind that the metrics tell apart, spread over some scrapes."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from tests.deploy.prometheus_process import PrometheusProcess
from tests.server_process import ServerProcess

_LONG_PROMPT = "The quick brown fox jumps over the lazy dog. " * 8


def send_traffic(servers: Sequence[ServerProcess], prometheus: PrometheusProcess) -> None:
    """Send requests twice with scrapes between, so that every counter is seen before it grows, and seen growing."""
    prometheus.wait_for_scrapes(1)
    for _ in range(2):
        for server in servers:
            _send_some(server)
        prometheus.wait_for_scrapes(2)


def _send_some(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as http:
        completion = {"prompt": _LONG_PROMPT, "max_tokens": 8, "n": 2}
        http.post("/v1/completions", json=completion).raise_for_status()
        chat = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 32, "stream": True}
        http.post("/v1/chat/completions", json=chat).raise_for_status()
        assert http.post("/v1/completions", json={"prompt": "x", "no_such_field": 1}).status_code == 400


def values(series: list[dict[str, object]]) -> list[float]:
    """Return the numbers of a query's series; those that are no number (0 divided by 0) are left out."""
    numbers = [float(item["value"][1]) for item in series]  # type: ignore[index]
    return [number for number in numbers if number == number]
