"""Charts of a comparison: tokens a second over the batch size, one line for each engine and format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cpu_peers.goals import is_ours, median_figures
from benchmarks.cpu_peers.variants import VARIANTS
from octavo.bench.charts import Axis, Series, line_chart

_BATCH_SIZES = (1, 8, 16, 32)
_FORMATS = {"16": 16, "8": 8, "4": 4}


def draw(results: Mapping[str, Any], title: str) -> dict[str, str]:
    """Return an SVG for each number of bits of which decoding was measured, under the name of its file."""
    charts = {}
    for name, bits in _FORMATS.items():
        series = [_series(results, variant.name) for variant in VARIANTS if variant.bits == bits]
        drawn = [one for one in series if one is not None]
        if drawn:
            charts[f"decode_{name}_bit"] = line_chart(
                drawn,
                title=f"Decode, {title}, {name}-bit weights",
                x=Axis("sequences in a batch"),
                y=Axis("tokens/s"),
            )
    return charts


def _series(results: Mapping[str, Any], name: str) -> Series | None:
    points = {
        size: median_figures(measured[name]["rounds"])["tokens_per_s"]
        for size in _BATCH_SIZES
        if (measured := results.get(f"decode-{size}", {})).get(name, {}).get("rounds")
    }
    if not points:
        return None
    return Series(name, list(points), list(points.values()), dashed=not is_ours(name))
