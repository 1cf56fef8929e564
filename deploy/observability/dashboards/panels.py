"""What a dashboard consists of, and the PromQL that panels have in common. How it looks is ``rendering``'s subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MODEL = '{model_name=~"$model_name",instance=~"$instance"}'
"""Selects the series of the chosen models and servers."""
INSTANCE = '{instance=~"$instance"}'
"""Selects the series of the chosen servers that belong to no model."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and how its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel before it has a place.

    Attributes:
        unit: Grafana's name of the unit: s, bytes, percentunit, reqps, ops, short, celsius, watt.
        kind: Grafana's panel type: timeseries, stat, heatmap or table.
        width: in Grafana's grid, whose rows have 24 columns.
        warn_at: value from which a stat is shown in red.
        stacked: whether series are drawn on top of each other.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    warn_at: float | None = None
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A titled row of panels."""

    title: str
    panels: Sequence[Panel]


def quantiles(histogram: str, selector: str = MODEL, *, by: str = "") -> list[Query]:
    """The median, the 95th and the 99th percentile of a histogram, by a label if one is named."""
    labels = ", ".join(["le", *([by] if by else [])])
    legend = f" {{{{{by}}}}}" if by else ""
    return [
        Query(
            f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{selector}[$__rate_interval])))",
            f"p{q * 100:.0f}{legend}",
        )
        for q in (0.5, 0.95, 0.99)
    ]


def p95(histogram: str) -> list[Query]:
    """The 95th percentile alone."""
    return [query for query in quantiles(histogram) if query.legend == "p95"]


def mean(histogram: str, legend: str) -> Query:
    """The mean of a histogram's observations."""
    return Query(f"{summed_rate(f'{histogram}_sum')} / {summed_rate(f'{histogram}_count')}", legend)


def summed_rate(counter: str, selector: str = MODEL, *, by: str = "") -> str:
    """Increase of a counter per second, over all series or for each value of a label."""
    return f"sum{f' by ({by})' if by else ''} (rate({counter}{selector}[$__rate_interval]))"


def heatmap(title: str, description: str, histogram: str, unit: str) -> Panel:
    """How the observations of a histogram are spread over time."""
    query = Query(f"sum by (le) (increase({histogram}_bucket{MODEL}[$__rate_interval]))", "{{le}}")
    return Panel(title, description, unit, [query], kind="heatmap", width=12)


def stat(title: str, description: str, unit: str, expr: str, warn_at: float | None = None) -> Panel:
    """One large number."""
    return Panel(title, description, unit, [Query(expr, title)], kind="stat", width=3, height=4, warn_at=warn_at)
