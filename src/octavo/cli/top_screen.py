"""How ``octavo top`` draws a frame. What a server says is text to it, never markup or a terminal's commands."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octavo.bench.server_view import GpuUse, Latency, ServerFrame
from octavo.config.sizes import format_bytes
from octavo.observe.logging import printable

_UNKNOWN = "–"
_BAR_WIDTH = 30
_MAX_REQUESTS = 20
_LATENCY_NAMES = {"ttft": "first token", "itl": "between tokens", "e2e": "whole request"}


def frame_as_json(frame: ServerFrame) -> str:
    """Write a frame as JSON."""
    return msgspec.json.format(msgspec.json.encode(frame), indent=2).decode()


def render(frame: ServerFrame) -> RenderableType:
    """Draw a frame."""
    head = Text.assemble(("octavo top", "bold"), "   ", printable(frame.url))
    if frame.problem is not None:
        return Group(head, Text(), Text(printable(frame.problem), "red"), Text("trying again …", "dim"))
    if frame.num_running is None:
        return Group(head, Text(), Text("looking …", "dim"))
    parts = [*frame.models, f"version {frame.version}" if frame.version else ""]
    parts += [f"up {_duration(frame.uptime_s)}"] if frame.uptime_s is not None else []
    head.append("   " + "   ".join(printable(part) for part in parts if part))
    return Group(head, Text(), _figures(frame), Text(), _latencies(frame), *_requests(frame))


def _figures(frame: ServerFrame) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "requests",
        f"{_rate(frame.requests_per_s)}/s   running {frame.num_running}   waiting {_count(frame.num_waiting)}   "
        f"preemptions {_count(frame.num_preemptions)}",
    )
    table.add_row(
        "tokens",
        f"prompt {_rate(frame.prompt_tokens_per_s)}/s   generated {_rate(frame.generation_tokens_per_s)}/s",
    )
    table.add_row("KV cache", _bar(frame.kv_cache_usage))
    table.add_row("prefix cache", f"{_percent(frame.prefix_cache_hit_rate)} of prompt tokens found")
    if frame.cpu_cores is not None or frame.memory_bytes is not None:
        table.add_row("process", f"{_rate(frame.cpu_cores)} cores   {_bytes(frame.memory_bytes)}")
    for gpu in frame.gpus:
        table.add_row(Text(f"GPU {printable(gpu.index)}"), _gpu(gpu))
    return table


def _latencies(frame: ServerFrame) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", min_width=14)
    table.add_column(justify="right", min_width=10)
    table.add_column(justify="right", min_width=10)
    table.add_row("latency", Text("p50", "dim"), Text("p95", "dim"))
    for key, name in _LATENCY_NAMES.items():
        latency = frame.latencies.get(key, Latency())
        style = "dim" if latency.is_since_start else ""
        table.add_row(name, *(Text(_seconds(value), style) for value in (latency.p50_s, latency.p95_s)))
    return table


def _requests(frame: ServerFrame) -> Iterator[RenderableType]:
    """Draw the running requests, oldest first."""
    if not frame.requests:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("request", "state"):
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    for heading in ("age", "prompt", "output"):
        table.add_column(heading, justify="right")
    oldest_first = sorted(frame.requests, key=lambda request: -(request.age_s or 0.0))
    for request in oldest_first[:_MAX_REQUESTS]:
        table.add_row(
            Text(printable(request.id)),
            Text(printable(request.state)),
            _UNKNOWN if request.age_s is None else _duration(request.age_s),
            _count(request.num_prompt_tokens),
            _count(request.num_output_tokens),
        )
    yield Text()
    yield table
    if len(frame.requests) > _MAX_REQUESTS:
        yield Text(f"and {len(frame.requests) - _MAX_REQUESTS} more", "dim")


def _bar(part: float | None) -> RenderableType:
    if part is None:
        return _UNKNOWN
    row = Table.grid(padding=(0, 2))
    colour = "green" if part < 0.9 else "red"
    row.add_row(Bar(1.0, 0, part, width=_BAR_WIDTH, color=colour, bgcolor="grey23"), _percent(part))
    return row


def _gpu(gpu: GpuUse) -> str:
    total = f" of {_bytes(gpu.total_bytes)}" if gpu.total_bytes is not None else ""
    return f"{_percent(gpu.utilization)} busy   {_bytes(gpu.used_bytes)}{total}"


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _rate(per_s: float | None) -> str:
    return _UNKNOWN if per_s is None else f"{per_s:,.1f}"


def _percent(part: float | None) -> str:
    return _UNKNOWN if part is None else f"{part * 100:.1f} %"


def _bytes(number: float | None) -> str:
    return _UNKNOWN if number is None else format_bytes(int(number))


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    return f"{seconds * 1e3:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{seconds:.1f} s"
