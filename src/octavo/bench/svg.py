"""SVG as text: elements, escaping, and the colours of charts as CSS variables with a light and a dark value."""

from __future__ import annotations

import html
import re
from typing import Literal

Scheme = Literal["light", "dark"]

_COLORS: dict[str, tuple[str, str]] = {
    "surface": ("#ffffff", "#14181d"),
    "ink": ("#1d2733", "#e6eaef"),
    "muted": ("#5d6b7a", "#9aa7b4"),
    "grid": ("#e4e8ed", "#2a323b"),
    "axis": ("#aab4bf", "#4c5865"),
    "good": ("#00785a", "#3fc79a"),
    "bad": ("#b3261e", "#ff8a80"),
    "series-0": ("#0072b2", "#56a8e8"),
    "series-1": ("#d55e00", "#ff8f4a"),
    "series-2": ("#009e73", "#35c795"),
    "series-3": ("#b8568f", "#e79bc6"),
    "series-4": ("#b27d00", "#f0c244"),
    "series-5": ("#4b5bb5", "#a3aef7"),
}
"""Light and dark value of each role; the series are Okabe and Ito's palette, shifted until all are legible on both."""

NUM_SERIES_COLORS = sum(role.startswith("series-") for role in _COLORS)
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VARIABLE = re.compile(r"var\(--octavo-([a-z0-9-]+)\)")
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)


def escape(text: object) -> str:
    """Write a text for XML and HTML, inside elements and attributes; characters that XML forbids become U+FFFD."""
    return html.escape(_NOT_IN_XML.sub("\ufffd", str(text)))


def element(name: str, *children: str, **attributes: object) -> str:
    """Write an element.

    Args:
        children: markup, put inside as it is.
        attributes: ``stroke_width=2`` becomes ``stroke-width="2"``, ``class_`` becomes ``class``; None is left out,
            and numbers are rounded to a hundredth.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(children)
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def number(value: float) -> str:
    """Write a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def color(role: str) -> str:
    """Return the value of ``fill`` or ``stroke`` for a role: ``ink``, ``muted``, ``grid``, ``series-0``, …."""
    if role not in _COLORS:
        raise ValueError(f"there is no colour {role!r}; the colours are {', '.join(_COLORS)}")
    return f"var(--octavo-{role})"


def series_color(index: int) -> str:
    """Return the colour of series ``index``; they repeat after the last."""
    return color(f"series-{index % NUM_SERIES_COLORS}")


HALO = {"stroke": color("surface"), "stroke_width": 4, "paint_order": "stroke", "stroke_linejoin": "round"}
"""Attributes of a text that must be legible across lines."""


def color_variables(selector: str) -> str:
    """Return the CSS that gives the colours their values: light ones, and dark ones where the reader prefers them."""
    light, dark = (";".join(f"--octavo-{role}:{values[index]}" for role, values in _COLORS.items()) for index in (0, 1))
    return f"{selector}{{{light}}}@media (prefers-color-scheme:dark){{{selector}{{{dark}}}}}"


def document(width: float, height: float, title: str, *children: str) -> str:
    """Return a whole SVG, which follows the reader's light or dark mode by itself.

    Args:
        title: what the picture shows, for those who do not see it.
    """
    return element(
        "svg",
        element("style", color_variables(".octavo-chart")),
        element("rect", width=width, height=height, rx=6, fill=color("surface")),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        class_="octavo-chart",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
        font_family="system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', Arial, sans-serif",
        font_size=12,
        fill=color("ink"),
    )


def with_plain_colors(svg: str, scheme: Scheme = "light") -> str:
    """Replace the CSS variables of a chart by colours, for programs that draw SVG but know no CSS variables."""
    index = ("light", "dark").index(scheme)
    return _VARIABLE.sub(lambda match: _COLORS[match[1]][index], _STYLE.sub("", svg))


def _value(value: object) -> str:
    return number(value) if isinstance(value, int | float) else escape(value)
