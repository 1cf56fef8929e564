"""Writes the Grafana dashboards: ``python -m deploy.observability.dashboards.make``, from the root of the repository.

A panel is written in a few lines in the modules beside this one; the JSON is made from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.observability.dashboards.overview import OVERVIEW
from deploy.observability.dashboards.rendering import dashboard
from deploy.observability.dashboards.request_details import REQUEST_DETAILS

DIRECTORY = Path(__file__).parents[1] / "grafana" / "dashboards"

DASHBOARDS = {
    "octavo-overview.json": dashboard(
        "octavo-overview", "Octavo", "Traffic, latency, engine and hardware of Octavo servers.", OVERVIEW
    ),
    "octavo-requests.json": dashboard(
        "octavo-requests",
        "Octavo: requests and KV cache",
        "Where the time of requests goes, what they ask for, and what the KV cache does.",
        REQUEST_DETAILS,
    ),
}


def render(content: Mapping[str, Any]) -> str:
    """Write a dashboard as the text of its file."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all dashboards."""
    for name, content in DASHBOARDS.items():
        (DIRECTORY / name).write_text(render(content), encoding="utf-8")


if __name__ == "__main__":
    main()
