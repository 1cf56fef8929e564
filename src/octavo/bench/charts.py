"""Charts as SVG text: lines, and cumulative distributions. Pure functions of their data.

A chart stands by itself and follows the reader's light or dark mode. ``render_png`` makes a picture of it for places
that take no SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octavo.bench.chart_frame import Axis, Frame, Key, Rule, make_frame
from octavo.bench.downsampling import evenly_spaced, visible_points
from octavo.bench.scales import readable
from octavo.bench.svg import HALO, Scheme, color, element, escape, number, series_color, with_plain_colors
from octavo.errors import ConfigError

__all__ = ["Axis", "Rule", "Series", "cdf_chart", "line_chart", "render_png"]

_MAX_MARKERS = 40
_MAX_TOOLTIPS = 60
_MAX_CDF_POINTS = 400
_MARKED_PERCENTILES = (50, 90, 95, 99)
_WRITTEN_PERCENTILES = (50, 99)
_DASHES = "6 4"
_SHAPES = (
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
    "M-3.6 -3.6H3.6V3.6H-3.6Z",
    "M0 -4.8L4.6 3.6H-4.6Z",
    "M0 -5L5 0L0 5L-5 0Z",
    "M0 4.8L4.6 -3.6H-4.6Z",
    "M-4.5 -1.5H-1.5V-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5Z",
)


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        x, y: the points in the order in which they are joined; a NaN breaks the line.
        labels: a tooltip for each point; by default its coordinates.
        steps: each value holds until the next point.
        dashed: drawn in dashes, say for what is predicted and not measured.
        color: which of the series' colours it has; by default the one of its place among the series.
        annotate: write the labels beside the points, too.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    labels: Sequence[str] = field(default=())
    steps: bool = False
    dashed: bool = False
    color: int | None = None
    annotate: bool = False


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x: Axis,
    y: Axis,
    rules: Sequence[Rule] = (),
    width: float = 720,
    height: float = 340,
    notes: str = "",
) -> str:
    """Draw lines, with a marker at each point where the points are few.

    A line with many points is thinned to what its pixels can show.

    Args:
        rules: values to mark; they widen the axes where needed.
        notes: a remark, written small below the chart.

    Raises:
        ValueError: a series has not as many x as y, or not as many labels as points.
    """
    lines = [_Line.of(one, index) for index, one in enumerate(series)]
    frame = make_frame(
        title,
        x,
        y,
        x_values=[*_extremes(line.x for line in lines), *(rule.value for rule in rules if rule.on == "x")],
        y_values=[*_extremes(line.y for line in lines), *(rule.value for rule in rules if rule.on == "y")],
        keys=[Key(line.series.name, line.sign()) for line in lines if line.series.name],
        width=width,
        height=height,
        notes=notes,
    )
    return frame.draw(*(line.draw(frame) for line in lines), rules=rules)


def cdf_chart(
    samples: Mapping[str, ArrayLike],
    *,
    title: str,
    x: Axis,
    rules: Sequence[Rule] = (),
    width: float = 720,
    height: float = 340,
) -> str:
    """Draw the cumulative distribution of one or more samples: which part of the values is at most x.

    The percentiles 50, 90, 95 and 99 are marked. A sample without values is left out.
    """
    curves = [
        _Cdf(name, np.sort(np.asarray(values, dtype=np.float64)), i) for i, (name, values) in enumerate(samples.items())
    ]
    curves = [curve for curve in curves if len(curve.values)]
    frame = make_frame(
        title,
        x,
        Axis("part of the values, %", low=0, high=100),
        x_values=[*_extremes(curve.values for curve in curves), *(rule.value for rule in rules if rule.on == "x")],
        y_values=[0, 100],
        keys=[Key(curve.name, _sign(curve.index)) for curve in curves if curve.name],
        width=width,
        height=height,
    )
    return frame.draw(*(curve.draw(frame) for curve in curves), rules=rules)


def render_png(svg: str, path: Path, *, scheme: Scheme = "light", zoom: int = 2) -> None:
    """Draw a chart into a PNG file.

    Args:
        zoom: pixels of the picture for each pixel of the chart.

    Raises:
        ConfigError: resvg-py is not installed, there is no font to write with, or the file cannot be written.
    """
    try:
        from resvg_py import svg_to_bytes  # an optional extra
    except ImportError as error:
        raise ConfigError("PNG pictures need the extra 'png': pip install 'octavo[png]'") from error
    text = '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="30"><text y="20">x</text></svg>'
    if svg_to_bytes(svg_string=text) == svg_to_bytes(svg_string=text.replace(">x<", "><")):
        raise ConfigError(
            "there is no font on this machine to write the picture's text with. Install one, e.g. "
            "apt-get install fonts-dejavu-core."
        )
    picture = svg_to_bytes(svg_string=with_plain_colors(svg, scheme), zoom=zoom)
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Line:
    series: Series
    index: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @classmethod
    def of(cls, series: Series, index: int) -> _Line:
        x, y = np.asarray(series.x, dtype=np.float64), np.asarray(series.y, dtype=np.float64)
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"series {series.name!r} has {x.shape} x and {y.shape} y; it needs as many of each")
        if series.labels and len(series.labels) != len(x):
            raise ValueError(f"series {series.name!r} has {len(series.labels)} labels for {len(x)} points")
        return cls(series, index if series.color is None else series.color, x, y)

    @property
    def has_markers(self) -> bool:
        return len(self.x) <= _MAX_MARKERS and not self.series.steps

    def sign(self) -> str:
        return _sign(self.index, is_dashed=self.series.dashed, has_marker=self.has_markers)

    def draw(self, frame: Frame) -> str:
        kept = visible_points(self.x, self.y, int(frame.plot_width))
        xs, ys = frame.x.positions(self.x[kept]), frame.y.positions(self.y[kept])
        line = element(
            "path",
            element("title", escape(self.series.name)),
            d=path_data(xs, ys, steps=self.series.steps),
            fill="none",
            stroke=series_color(self.index),
            stroke_width=2,
            stroke_linejoin="round",
            stroke_dasharray=_DASHES if self.series.dashed else None,
        )
        shown = range(len(self.x)) if self.has_markers else evenly_spaced(len(self.x), _MAX_TOOLTIPS)
        return line + "".join(self._point(frame, int(i)) for i in shown)

    def _point(self, frame: Frame, i: int) -> str:
        at = frame.x(self.x[i]), frame.y(self.y[i])
        if not all(map(math.isfinite, at)):
            return ""
        told = self.series.labels[i] if self.series.labels else f"{readable(self.x[i])}; {readable(self.y[i])}"
        tooltip = element("title", escape(f"{self.series.name}: {told}" if self.series.name else told))
        if not self.has_markers:  # only to be pointed at
            return element("circle", tooltip, cx=at[0], cy=at[1], r=6, fill="transparent")
        marker = _marker(self.index, at, tooltip, is_dashed=self.series.dashed)
        if not (self.series.annotate and self.series.labels):
            return marker
        return marker + _annotation(self.series.labels[i], at, frame)


@dataclass(frozen=True)
class _Cdf:
    name: str
    values: NDArray[np.float64]
    index: int

    def draw(self, frame: Frame) -> str:
        count = len(self.values)
        kept = evenly_spaced(count, _MAX_CDF_POINTS)
        values = np.maximum(self.values[kept], frame.x.low)  # what lies before the axis begins at its edge
        xs = frame.x.positions(np.concatenate([values[:1], values]))
        ys = frame.y.positions(np.concatenate([[0.0], (kept + 1) / count * 100]))
        curve = element(
            "path",
            element("title", escape(self.name)),
            d=path_data(xs, ys, steps=count <= _MAX_CDF_POINTS),
            fill="none",
            stroke=series_color(self.index),
            stroke_width=2,
            stroke_linejoin="round",
        )
        return curve + "".join(self._percentile(frame, percent) for percent in _MARKED_PERCENTILES)

    def _percentile(self, frame: Frame, percent: int) -> str:
        value = float(np.percentile(self.values, percent))
        told = f"p{percent}: {readable(value)}"
        tooltip = element("title", escape(f"{self.name}, {told}" if self.name else told))
        at = frame.x(max(value, frame.x.low)), frame.y(percent)
        marker = _marker(self.index, at, tooltip)
        is_alone = not self.name  # then there is room to write its percentiles
        return marker + (_annotation(told, at, frame) if is_alone and percent in _WRITTEN_PERCENTILES else "")


def path_data(xs: NDArray[np.float64], ys: NDArray[np.float64], *, steps: bool = False) -> str:
    """Return the ``d`` of a path through positions; it is interrupted where one is not finite."""
    written: list[str] = []
    is_drawing = False
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if not (math.isfinite(x) and math.isfinite(y)):
            is_drawing = False
        elif not is_drawing:
            written.append(f"M{x:.1f} {y:.1f}")
            is_drawing = True
        else:
            written.append(f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}")
    return "".join(written)


def _marker(index: int, at: tuple[float, float], tooltip: str, *, is_dashed: bool = False) -> str:
    return element("g", tooltip, _shape(index, is_dashed), transform=f"translate({number(at[0])} {number(at[1])})")


def _shape(index: int, is_dashed: bool) -> str:
    """Draw the shape of a series around the origin: hollow where its line is dashed."""
    inside, outline = color("surface"), series_color(index)
    if not is_dashed:
        inside, outline = outline, inside
    return element("path", d=_SHAPES[index % len(_SHAPES)], fill=inside, stroke=outline, stroke_width=1.5)


def _annotation(label: str, at: tuple[float, float], frame: Frame) -> str:
    is_right = at[0] > frame.x.end - 90
    return element(
        "text",
        escape(label),
        x=at[0] + (-9 if is_right else 9),
        y=at[1] + 14,
        text_anchor="end" if is_right else "start",
        font_size=10.5,
        fill=color("muted"),
        **HALO,
    )


def _sign(index: int, *, is_dashed: bool = False, has_marker: bool = True) -> str:
    dashes = _DASHES if is_dashed else None
    line = element("line", x1=0, x2=18, y1=6, y2=6, stroke=series_color(index), stroke_width=2, stroke_dasharray=dashes)
    return line + (element("g", _shape(index, is_dashed), transform="translate(9 6) scale(0.8)") if has_marker else "")


def _extremes(arrays: Iterable[NDArray[np.float64]]) -> list[float]:
    finite = [array[np.isfinite(array)] for array in arrays]
    return [float(extreme(array)) for array in finite if len(array) for extreme in (np.min, np.max)]
