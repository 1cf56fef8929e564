"""What all charts have around their data: title, legend, axes with units, grid, and lines that mark a value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from octavo.bench.scales import Scale, log_tick_labels, log_ticks, round_ticks, tick_labels
from octavo.bench.svg import HALO, color, document, element, escape

_CHAR_WIDTH = 6.6
_MARGIN = 18.0
_TITLE_HEIGHT = 26.0
_LEGEND_ROW_HEIGHT = 20.0
_BELOW_PLOT = 46.0
_KEY_WIDTH = 26.0
_ROOM_AFTER_DATA = 0.03
_PIXELS_PER_X_TICK = 75
_PIXELS_PER_Y_TICK = 36


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        label: what it shows, with its unit: ``time to first token, ms``.
        log: logarithmic; values that are not positive are not drawn.
        low, high: ends of the axis; by default it goes from 0 to a little (upwards: to a round value) beyond the data.
        has_ticks: whether its values are written.
    """

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    has_ticks: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """A dashed line that marks a value, such as an objective, on the x axis or on the y axis."""

    value: float
    label: str
    on: str = "x"


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of the legend: a name, and the markup that shows its sign in a box of 18 x 12 pixels."""

    name: str
    sign: str


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of a chart's data, and everything around it."""

    width: float
    height: float
    title: str
    x_axis: Axis
    y_axis: Axis
    x: Scale
    y: Scale
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    keys: Sequence[Key]
    notes: str

    @property
    def plot_width(self) -> float:
        """Width of the place of the data, in pixels."""
        return self.x.end - self.x.start

    def draw(self, *data: str, rules: Sequence[Rule] = ()) -> str:
        """Return the SVG with the data's markup in its place."""
        return document(
            self.width,
            self.height,
            self.title,
            element("text", escape(self.title), x=_MARGIN, y=26, font_size=14, font_weight=600),
            *self._legend(),
            *self._horizontal_axis(),
            *self._vertical_axis(),
            *data,
            *(self._rule(rule) for rule in rules),
        )

    def _legend(self) -> Iterable[str]:
        for key, (left, top) in zip(self.keys, _legend_places(self.keys, self.width), strict=True):
            name = element("text", escape(key.name), x=24, y=10, fill=color("muted"))
            yield element("g", key.sign, name, transform=f"translate({left:.0f} {top + _TITLE_HEIGHT + 10:.0f})")

    def _horizontal_axis(self) -> Iterable[str]:
        bottom = self.y.start
        labels = log_tick_labels(self.x_ticks) if self.x_axis.log else tick_labels(self.x_ticks)
        for tick, label in zip(self.x_ticks, labels, strict=True):
            at = self.x(tick)
            yield element("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, stroke=color("axis"))
            yield element("text", label, x=at, y=bottom + 18, text_anchor="middle", font_size=11, fill=color("muted"))
        yield element("line", x1=self.x.start, x2=self.x.end, y1=bottom, y2=bottom, stroke=color("axis"))
        yield element(
            "text",
            escape(self.x_axis.label),
            x=self.x.end,
            y=bottom + 36,
            text_anchor="end",
            fill=color("muted"),
        )
        if self.notes:
            yield element(
                "text",
                escape(self.notes),
                x=_MARGIN,
                y=bottom + 36,
                font_size=11,
                font_style="italic",
                fill=color("muted"),
            )

    def _vertical_axis(self) -> Iterable[str]:
        labels = log_tick_labels(self.y_ticks) if self.y_axis.log else tick_labels(self.y_ticks)
        for tick, label in zip(self.y_ticks, labels, strict=True):
            at = self.y(tick)
            if at != self.y.start:
                yield element("line", x1=self.x.start, x2=self.x.end, y1=at, y2=at, stroke=color("grid"))
            yield element(
                "text", label, x=self.x.start - 8, y=at + 4, text_anchor="end", font_size=11, fill=color("muted")
            )
        yield element("text", escape(self.y_axis.label), x=_MARGIN, y=self.y.end - 20, fill=color("muted"))

    def _rule(self, rule: Rule) -> str:
        scale = self.x if rule.on == "x" else self.y
        at = scale(rule.value)
        if not min(scale.start, scale.end) <= at <= max(scale.start, scale.end):
            return ""
        line = {"stroke": color("muted"), "stroke_dasharray": "5 4", "stroke_width": 1.2}
        if rule.on == "y":
            mark = element("line", x1=self.x.start, x2=self.x.end, y1=at, y2=at, **line)
            place = {"x": self.x.end - 4, "y": at - 5, "text_anchor": "end"}
        else:
            mark = element("line", x1=at, x2=at, y1=self.y.start, y2=self.y.end, **line)
            half = _CHAR_WIDTH * len(rule.label) / 2
            middle = min(max(at, self.x.start + half), self.width - _MARGIN - half)
            place = {"x": middle, "y": self.y.end - 5, "text_anchor": "middle"}
        return mark + element("text", escape(rule.label), font_size=11, fill=color("ink"), **HALO, **place)


def make_frame(
    title: str,
    x_axis: Axis,
    y_axis: Axis,
    *,
    x_values: Iterable[float],
    y_values: Iterable[float],
    keys: Sequence[Key] = (),
    width: float = 720,
    height: float = 340,
    notes: str = "",
) -> Frame:
    """Lay out a chart around its data.

    Args:
        x_values, y_values: what the axes must reach: the data, or their extremes.
        notes: a remark, written small below the chart.
    """
    top = _TITLE_HEIGHT + 10 + _legend_height(keys, width) + 36
    bottom = height - _BELOW_PLOT
    x_ticks, x_low, x_high = _ticks(x_axis, x_values, int((width - 90) // _PIXELS_PER_X_TICK), ends_at_tick=False)
    y_ticks, y_low, y_high = _ticks(y_axis, y_values, int((bottom - top) // _PIXELS_PER_Y_TICK), ends_at_tick=True)
    labels = log_tick_labels(y_ticks) if y_axis.log else tick_labels(y_ticks)
    left = _MARGIN + 10 + _CHAR_WIDTH * max((len(label) for label in labels), default=0)
    return Frame(
        width=width,
        height=height,
        title=title,
        x_axis=x_axis,
        y_axis=y_axis,
        x=Scale(x_low, x_high, left, width - _MARGIN - 6, log=x_axis.log),
        y=Scale(y_low, y_high, bottom, top, log=y_axis.log),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        keys=keys,
        notes=notes,
    )


def _ticks(
    axis: Axis, values: Iterable[float], max_ticks: int, *, ends_at_tick: bool
) -> tuple[list[float], float, float]:
    """Return the ticks of an axis and its ends."""
    drawn = [value for value in values if math.isfinite(value) and (value > 0 or not axis.log)]
    if axis.log:
        low = axis.low or min(drawn, default=1.0)
        high = axis.high or max(drawn, default=10 * low)
        ticks = log_ticks(low, max(low, high))
    else:
        low = axis.low if axis.low is not None else min([*drawn, 0.0])
        high = axis.high if axis.high is not None else max(drawn, default=1.0)
        ticks = round_ticks(low, high, max(max_ticks, 3))
    first = axis.low if axis.low is not None else ticks[0]
    last = axis.high if axis.high is not None and axis.high > first else ticks[-1]
    if not (ends_at_tick or axis.log) and axis.high is None and high > first:
        last = min(last, high + _ROOM_AFTER_DATA * (high - first))
    return [tick for tick in ticks if axis.has_ticks and first <= tick <= last], first, last


def _legend_places(keys: Sequence[Key], width: float) -> list[tuple[float, float]]:
    """Return left and top of each entry, row after row."""
    places = []
    left, top = _MARGIN, 0.0
    for key in keys:
        needed = _KEY_WIDTH + _CHAR_WIDTH * len(key.name) + 16
        if left > _MARGIN and left + needed > width - _MARGIN:
            left, top = _MARGIN, top + _LEGEND_ROW_HEIGHT
        places.append((left, top))
        left += needed
    return places


def _legend_height(keys: Sequence[Key], width: float) -> float:
    places = _legend_places(keys, width)
    return places[-1][1] + _LEGEND_ROW_HEIGHT if places else 0.0
