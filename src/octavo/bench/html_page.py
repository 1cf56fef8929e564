"""Parts of a report: one HTML file that needs nothing else, neither scripts nor a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from octavo.bench.svg import color_variables, element, escape

_CSS = """
*{box-sizing:border-box}
body{margin:0;background:var(--octavo-page);color:var(--octavo-ink);
 font:15px/1.5 system-ui,'Segoe UI',Roboto,'DejaVu Sans',Arial,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1180px;margin:0 auto;padding:32px 24px 48px}
h1{font-size:24px;margin:0 0 2px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:17px;margin:36px 0 12px}
p{margin:0 0 10px}
.muted{color:var(--octavo-muted)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(114px,1fr));gap:10px;margin:22px 0}
.tile,.card{background:var(--octavo-surface);border:1px solid var(--octavo-grid);border-radius:8px}
.tile{padding:11px 12px}
.tile b{display:block;font-size:20px;font-weight:650;white-space:nowrap;letter-spacing:-.01em;line-height:1.25}
.tile span{display:block;color:var(--octavo-muted);font-size:13px;line-height:1.35;margin-top:2px}
.tile.good b,td.good{color:var(--octavo-good)}
.tile.bad b,td.bad{color:var(--octavo-bad)}
.notice{border-left:4px solid var(--octavo-series-4);background:var(--octavo-surface);padding:10px 14px;margin:14px 0;
 border-radius:0 8px 8px 0;overflow-wrap:anywhere}
.notice ul{margin:0;padding-left:18px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:14px}
.card{overflow:hidden}
.card svg{display:block;width:100%;height:auto}
.wide{margin-top:14px}.wide + .charts{margin-top:14px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:7px 11px;text-align:right;border-bottom:1px solid var(--octavo-grid);white-space:nowrap}
th{font-weight:600;font-size:13px;line-height:1.3;color:var(--octavo-muted);white-space:normal;vertical-align:bottom}
tr:last-child td{border-bottom:0}
th:first-child,td:first-child{text-align:left}
table.pairs td{text-align:left;white-space:normal;overflow-wrap:anywhere}
table.pairs td:first-child{color:var(--octavo-muted);width:34%}
table.texts td{text-align:left;white-space:normal;overflow-wrap:anywhere}
table.texts th{text-align:left}
tr.marked td{font-weight:650;background:color-mix(in srgb,var(--octavo-series-0) 9%,transparent)}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:14px;align-items:start}
footer{margin-top:40px;color:var(--octavo-muted);font-size:13px}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
"""


def page(title: str, *sections: str) -> str:
    """Return a whole page; the title is escaped, the sections are markup."""
    variables = color_variables(":root")
    background = ":root{--octavo-page:#f5f7f9}@media (prefers-color-scheme:dark){:root{--octavo-page:#0d1014}}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{variables}{background}{_CSS}</style></head><body><main>",
            *(section for section in sections if section),
            "</main></body></html>",
            "",
        ]
    )


def heading(title: str, *lines: str) -> str:
    """Return the top of a page: a title, and lines in a quieter colour."""
    quiet = "".join(element("p", escape(line), class_="muted") for line in lines if line)
    return f"<header>{element('h1', escape(title))}{quiet}</header>"


def section(title: str, *contents: str) -> str:
    """Return a titled section of some markup; nothing if there is none."""
    inner = "".join(contents)
    return f"<section>{element('h2', escape(title))}{inner}</section>" if inner else ""


def tile(value: str, label: str, mood: str = "") -> str:
    """Return a headline figure.

    Args:
        mood: ``good`` or ``bad`` colours it.
    """
    return element("div", element("b", escape(value)), element("span", escape(label)), class_=f"tile {mood}".strip())


def tiles(contents: Iterable[str]) -> str:
    """Return headline figures side by side."""
    return element("div", *contents, class_="tiles")


def notice(lines: Sequence[str]) -> str:
    """Return lines that must not be overlooked; nothing if there are none."""
    if not lines:
        return ""
    items = "".join(element("li", escape(line)) for line in lines)
    return f'<div class="notice" role="note"><ul>{items}</ul></div>'


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return element("p", escape(text))


def charts(pictures: Iterable[str]) -> str:
    """Return SVGs side by side, as many as the window has room for."""
    cards = "".join(element("div", picture, class_="card") for picture in pictures if picture)
    return f'<div class="charts">{cards}</div>' if cards else ""


def wide_chart(picture: str) -> str:
    """Return an SVG over the whole width."""
    return element("div", picture, class_="card wide")


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    marked: int | None = None,
    moods: Sequence[str] = (),
    kind: str = "",
) -> str:
    """Return a table of texts, the first column left-aligned, the others right-aligned.

    Args:
        marked: row to emphasise.
        moods: ``good``, ``bad`` or nothing for the last cell of each row.
        kind: ``texts`` aligns everything to the left and wraps long lines.
    """
    head = element("tr", *(element("th", escape(cell)) for cell in header))
    body = []
    for index, row in enumerate(rows):
        mood = moods[index] if moods else ""
        last = len(row) - 1
        cells = (_cell(cell, mood if place == last else "") for place, cell in enumerate(row))
        body.append(element("tr", *cells, class_="marked" if index == marked else None))
    inner = f"<table{f' class={kind!r}' if kind else ''}><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="card scroll">{inner}</div>'


def pairs(title: str, values: Mapping[str, Any]) -> str:
    """Return names and values as a table under a title; mappings inside are written as ``outer.inner``."""
    flat = list(_flatten(values))
    if not flat:
        return ""
    rows = "".join(element("tr", _cell(name), _cell(value)) for name, value in flat)
    return f'<div>{element("h2", escape(title))}<div class="card"><table class="pairs">{rows}</table></div></div>'


def columns(*contents: str) -> str:
    """Return markup side by side."""
    return element("div", *contents, class_="columns")


def footer(version: str) -> str:
    """Return the last line of a report: what made it."""
    return element("footer", escape(f"Made by octavo {version}. All latencies and tokens are of successful requests."))


def _cell(text: str, mood: str = "") -> str:
    return f"<td{f' class={mood!r}' if mood else ''}>{escape(text)}</td>"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
