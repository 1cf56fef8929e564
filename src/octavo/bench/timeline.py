"""What happened when: requests as bars over time, requests under way, and tokens a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.bench.chart_frame import Axis, Frame, Key, make_frame
from octavo.bench.charts import Series, line_chart
from octavo.bench.downsampling import evenly_spaced
from octavo.bench.records import RequestRecord
from octavo.bench.svg import color, element, escape

_MAX_BARS = 120
_MAX_PLOT_HEIGHT = 420
_MAX_ROW_HEIGHT = 14
_NUM_INTERVALS = 120
_WAITING, _STREAMING, _FAILED = color("series-4"), color("series-0"), color("bad")


def request_timeline(records: Sequence[RequestRecord], *, title: str = "Requests over time", width: float = 720) -> str:
    """Draw each request as a bar from sending to its end, with a mark at the first token.

    Of many requests 120 are drawn, evenly spaced in the order in which they were sent.
    """
    ordered = sorted(records, key=lambda record: record.sent_at)
    shown = [ordered[i] for i in evenly_spaced(len(ordered), _MAX_BARS)]
    row_height = min(_MAX_PLOT_HEIGHT / max(len(shown), 1), _MAX_ROW_HEIGHT)
    keys = [Key("waiting for the first token", _block(_WAITING)), Key("streaming", _block(_STREAMING))]
    if any(not record.chunk_times and record.error is None for record in shown):
        keys.append(Key("answered at once", _block(color("series-2"))))
    if any(record.error is not None for record in shown):
        keys.append(Key("failed", _block(_FAILED)))
    frame = make_frame(
        title,
        Axis("time, s"),
        Axis("requests, the first one on top", low=0, high=max(len(shown), 1), has_ticks=False),
        x_values=[record.finished_at for record in shown],
        y_values=[],
        keys=keys,
        width=width,
        height=150 + row_height * max(len(shown), 4),
        notes=f"{len(shown):,} of {len(ordered):,} requests, evenly chosen" if len(shown) < len(ordered) else "",
    )
    return frame.draw(*(_bar(frame, len(shown) - place, record) for place, record in enumerate(shown)))


def concurrency_chart(
    records: Sequence[RequestRecord], *, title: str = "Requests under way", width: float = 720, height: float = 260
) -> str:
    """Draw how many requests were under way at each moment."""
    return line_chart(
        [concurrency_series(records)], title=title, x=Axis("time, s"), y=Axis("requests"), width=width, height=height
    )


def throughput_chart(
    records: Sequence[RequestRecord], *, title: str = "Output tokens a second", width: float = 720, height: float = 260
) -> str:
    """Draw the output tokens a second over time."""
    return line_chart(
        [throughput_series(records)], title=title, x=Axis("time, s"), y=Axis("tokens/s"), width=width, height=height
    )


def concurrency_series(records: Sequence[RequestRecord], name: str = "") -> Series:
    """Return the number of requests under way, one point at each change."""
    times = np.array([at for record in records for at in (record.sent_at, record.finished_at)])
    changes = np.tile([1, -1], len(records))
    order = np.lexsort((changes, times))
    return Series(name, times[order], np.cumsum(changes[order]), steps=True)


def throughput_series(records: Sequence[RequestRecord], name: str = "", num_intervals: int = _NUM_INTERVALS) -> Series:
    """Return the output tokens a second in equal intervals of the test.

    The tokens of a request are spread evenly over its streamed pieces; without any they count when it finished.
    """
    arrivals = [record.chunk_times or [record.finished_at] for record in records if record.error is None]
    counts = [record.output_tokens for record in records if record.error is None]
    if not arrivals:
        return Series(name, [], [])
    times = np.concatenate([np.asarray(pieces) for pieces in arrivals])
    weights = np.concatenate(
        [np.full(len(pieces), count / len(pieces)) for pieces, count in zip(arrivals, counts, strict=True)]
    )
    end = max(float(times.max()), 1e-9)
    tokens, edges = np.histogram(times, bins=num_intervals, range=(0, end), weights=weights)
    return Series(name, edges, np.append(tokens, tokens[-1]) / (edges[1] - edges[0]), steps=True)


def _bar(frame: Frame, place: int, record: RequestRecord) -> str:
    """Draw a request into row ``place``, counted from below from 1 on."""
    top, bottom = frame.y(place - 0.12), frame.y(place - 0.88)
    tooltip = element("title", escape(_describe(record)))

    def part(start: float, end: float, fill: str) -> str:
        left = frame.x(start)
        return element("rect", x=left, y=top, width=max(frame.x(end) - left, 0.75), height=bottom - top, fill=fill)

    if record.error is not None:
        return element("g", tooltip, part(record.sent_at, record.finished_at, _FAILED))
    if not record.chunk_times:
        return element("g", tooltip, part(record.sent_at, record.finished_at, color("series-2")))
    first = record.chunk_times[0]
    return element("g", tooltip, part(record.sent_at, first, _WAITING), part(first, record.finished_at, _STREAMING))


def _describe(record: RequestRecord) -> str:
    if record.error is not None:
        return f"request {record.index}: {record.error} {record.error_message}".rstrip()
    first = f", first token after {record.ttft_s * 1e3:,.0f} ms" if record.ttft_s is not None else ""
    return (
        f"request {record.index}: {record.sent_at:.3f} s to {record.finished_at:.3f} s{first}, "
        f"{record.input_tokens:,} tokens in, {record.output_tokens:,} out"
    )


def _block(fill: str) -> str:
    return element("rect", x=2, y=1, width=14, height=10, rx=2, fill=fill)
