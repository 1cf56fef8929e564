"""A model server seen from outside, as ``octavo top`` shows it: rates, queues, latencies and running requests.

Reads ``/metrics`` of Octavo and of vLLM, and Octavo's ``/v1/requests``.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import httpx
import msgspec

from octavo.bench.scraped_metrics import (
    Scrape,
    bucket_increase,
    histogram_quantile,
    increase,
    num_observations,
    read_metrics,
)
from octavo.errors import ConfigError

WINDOW_S = 10.0
_TIMEOUT_S = 5.0
# What a latency is called here, by Octavo and vLLM, and by older versions of vLLM.
_HISTOGRAMS: Mapping[str, tuple[str, ...]] = {
    "ttft": ("time_to_first_token_seconds",),
    "itl": ("inter_token_latency_seconds", "time_per_output_token_seconds"),
    "e2e": ("e2e_request_latency_seconds",),
}

_NO_MODEL_SERVER = "its /metrics have no numbers of a model server (with --disable-log-stats it keeps none)"
_PROCESSES = ("process", "engine_process")


class Latency(msgspec.Struct, frozen=True):
    """Quantiles of a latency in seconds; None without observations.

    Attributes:
        is_since_start: whether they are of all the server's life, since nothing was observed lately.
    """

    p50_s: float | None = None
    p95_s: float | None = None
    is_since_start: bool = False


class RunningRequest(msgspec.Struct, frozen=True):
    """One request that the server works on."""

    id: str
    state: str
    age_s: float | None = None
    num_prompt_tokens: int | None = None
    num_output_tokens: int | None = None


class _RequestList(msgspec.Struct):
    running: list[RunningRequest]


class GpuUse(msgspec.Struct, frozen=True):
    """One GPU of the server; ``utilization`` is from 0 to 1."""

    index: str
    utilization: float | None = None
    used_bytes: float | None = None
    total_bytes: float | None = None


class ServerFrame(msgspec.Struct, kw_only=True, frozen=True):
    """A server at one moment; None where it does not tell.

    Attributes:
        problem: why there is nothing to show.
        uptime_s: since the server's process started.
        window_s: how far back rates and latencies look.
        requests_per_s: requests that ended.
        kv_cache_usage: part that is held, from 0 to 1.
        prefix_cache_hit_rate: part of the prompt tokens that the prefix cache held, in the window or since the start.
        cpu_cores, memory_bytes: cores that the server's processes kept busy, and the memory that they hold.
        requests: running and waiting requests; None if the server has no list of them.
    """

    url: str
    problem: str | None = None
    models: list[str] = []
    version: str | None = None
    uptime_s: float | None = None
    window_s: float = 0.0
    requests_per_s: float | None = None
    prompt_tokens_per_s: float | None = None
    generation_tokens_per_s: float | None = None
    num_running: int | None = None
    num_waiting: int | None = None
    num_preemptions: int | None = None
    kv_cache_usage: float | None = None
    prefix_cache_hit_rate: float | None = None
    latencies: dict[str, Latency] = {}
    cpu_cores: float | None = None
    memory_bytes: float | None = None
    gpus: list[GpuUse] = []
    requests: list[RunningRequest] | None = None


class ServerView:
    """Looks at one server again and again.

    Args:
        url: where the server is; with or without scheme and ``/v1``.
        clock, unix_clock: seconds, monotonic and since 1970.

    Raises:
        ConfigError: the URL is not one.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self.url = _base_url(url)
        self._clock = clock
        self._unix_clock = unix_clock
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=_TIMEOUT_S,
        )
        self._scrapes: deque[Scrape] = deque()
        self._version: str | None = None
        self._lists_requests = True

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def refresh(self) -> ServerFrame:
        """Look at the server now. One that does not answer is said in the frame's ``problem``.

        Raises:
            ConfigError: the server does not accept the key.
        """
        try:
            scrape = self._scrape()
            requests = self._requests()
            self._version = self._version or self._read_version()
        except (httpx.HTTPError, msgspec.MsgspecError, ValueError) as error:
            self._forget()
            return ServerFrame(url=self.url, problem=f"{error or type(error).__name__}")
        if not scrape.prefix:
            self._forget()
            return ServerFrame(url=self.url, problem=_NO_MODEL_SERVER)
        self._scrapes.append(scrape)
        while len(self._scrapes) > 2 and scrape.at - self._scrapes[1].at >= WINDOW_S:
            self._scrapes.popleft()
        return self._frame(self._scrapes[0], scrape, requests)

    def _forget(self) -> None:
        """Begin anew: who answers next may be another server."""
        self._scrapes.clear()
        self._version = None
        self._lists_requests = True

    def _scrape(self) -> Scrape:
        return read_metrics(self._get("/metrics").raise_for_status().text, self._clock())

    def _requests(self) -> list[RunningRequest] | None:
        if not self._lists_requests:
            return None
        response = self._get("/v1/requests?limit=0")
        self._lists_requests = response.status_code != httpx.codes.NOT_FOUND  # no need to fill its log with that
        return msgspec.json.decode(response.content, type=_RequestList).running if response.is_success else None

    def _read_version(self) -> str | None:
        response = self._get("/version")
        return str(response.json().get("version", "")) or None if response.is_success else None

    def _get(self, path: str) -> httpx.Response:
        response = self._http.get(path)
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigError(f"{self.url} does not let us in without a key that it knows; name one with --api-key")
        return response

    def _frame(self, old: Scrape, new: Scrape, requests: list[RunningRequest] | None) -> ServerFrame:
        started_at = new.value("process_start_time_seconds")
        return ServerFrame(
            url=self.url,
            models=new.label_values("model_name"),
            version=self._version,
            uptime_s=None if started_at is None else max(0.0, self._unix_clock() - started_at),
            window_s=new.at - old.at,
            requests_per_s=_rate(old, new, "e2e_request_latency_seconds_count", "request_success_total"),
            prompt_tokens_per_s=_rate(old, new, "prompt_tokens_total"),
            generation_tokens_per_s=_rate(old, new, "generation_tokens_total"),
            num_running=_whole(new.value("num_requests_running")),
            num_waiting=_whole(new.value("num_requests_waiting")),
            num_preemptions=_whole(new.value("num_preemptions_total")),
            kv_cache_usage=new.mean("kv_cache_usage_perc", "gpu_cache_usage_perc"),
            prefix_cache_hit_rate=_hit_rate(old, new),
            latencies={name: _latency(old, new, names) for name, names in _HISTOGRAMS.items()},
            cpu_cores=_sum(_rate(old, new, f"{process}_cpu_seconds_total") for process in _PROCESSES),
            memory_bytes=_sum(new.value(f"{process}_resident_memory_bytes") for process in _PROCESSES),
            gpus=_gpus(new),
            requests=requests,
        )


def _base_url(url: str) -> str:
    complete = (url if "://" in url else f"http://{url}").rstrip("/").removesuffix("/v1")
    try:
        parsed = httpx.URL(complete)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{url!r} is not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{url!r} is not the URL of a server, like http://127.0.0.1:8000")
    return complete


def _rate(old: Scrape, new: Scrape, *names: str) -> float | None:
    grown = increase(old.value(*names), new.value(*names))
    elapsed_s = new.at - old.at
    return None if grown is None or elapsed_s <= 0 else grown / elapsed_s


def _hit_rate(old: Scrape, new: Scrape) -> float | None:
    queries, hits = "prefix_cache_queries_total", "prefix_cache_hits_total"
    asked = increase(old.value(queries), new.value(queries))
    found = increase(old.value(hits), new.value(hits))
    if not asked:  # nothing lately: all that there ever was
        asked, found = new.value(queries), new.value(hits)
    return found / asked if asked and found is not None else None


def _latency(old: Scrape, new: Scrape, names: tuple[str, ...]) -> Latency:
    ever = new.buckets(*names)
    if ever is None or not num_observations(ever):
        return Latency()
    lately = bucket_increase(old.buckets(*names), ever) or {}
    is_since_start = not num_observations(lately)
    buckets = ever if is_since_start else lately
    quantiles = [histogram_quantile(quantile, buckets) for quantile in (0.5, 0.95)]
    p50, p95 = (value if math.isfinite(value) else None for value in quantiles)
    return Latency(p50, p95, is_since_start)


def _gpus(scrape: Scrape) -> list[GpuUse]:
    fields = {
        "utilization": "gpu_utilization_ratio",
        "used_bytes": "gpu_memory_used_bytes",
        "total_bytes": "gpu_memory_total_bytes",
    }
    found: dict[str, dict[str, float]] = {}
    for field, name in fields.items():
        for labels, value in scrape.labeled.get(name, ()):
            found.setdefault(labels.get("gpu", "0"), {})[field] = value
    return [GpuUse(index, **values) for index, values in sorted(found.items())]


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else int(value)
