"""The Grafana dashboards: well formed, made from their source, and each query answered by a real Prometheus."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from deploy.observability.dashboards.make import DASHBOARDS, render
from tests.deploy.prometheus_process import OBSERVABILITY
from tests.deploy.traffic import values

FILES = sorted((OBSERVABILITY / "grafana/dashboards").glob("*.json"))
NAMES = [path.stem for path in FILES]
UNITS = {"s", "bytes", "percentunit", "reqps", "ops", "short", "celsius", "watt"}
"""Ids of Grafana's units (packages/grafana-data/src/valueFormats/categories.ts)."""

MAY_BE_EMPTY = {
    "octavo_gpu_": "a machine without an NVIDIA GPU has no such series",
}
"""Begin of the metrics whose queries may be answered with nothing, and why."""


def load(path: Any) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


QUERIES = [
    pytest.param(target["expr"], id=f"{path.stem}: {panel['title']} {target['refId']}")
    for path in FILES
    for panel in panels(load(path))
    for target in panel["targets"]
]


def substitute(expression: str, instance: str) -> str:
    """Put in what Grafana puts in for its variables."""
    filled = {"__rate_interval": "5m", "__range": "5m", "model_name": "octavo-nano", "instance": re.escape(instance)}
    for name, value in filled.items():
        expression = expression.replace(f"${name}", value.replace("\\", "\\\\"))
    assert "$" not in expression
    return expression


@pytest.mark.parametrize("expression", QUERIES)
def test_every_panel_shows_data(scraped, expression):
    found = values(scraped.query(substitute(expression, scraped.instances[0])))
    assert found or any(name in expression for name in MAY_BE_EMPTY)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_choices_at_the_top_have_values(scraped, path):
    choices = [variable for variable in load(path)["templating"]["list"] if variable["type"] == "query"]
    assert [choice["name"] for choice in choices] == ["model_name", "instance"]
    for choice in choices:
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", choice["definition"]).groups()
        assert label == choice["name"]
        found = scraped.query(substitute(series, scraped.instances[0]))
        assert {item["metric"][label] for item in found} == {
            "octavo-nano" if label == "model_name" else scraped.instances[0]
        }


def test_the_files_are_made_from_their_source():
    assert {path.name: path.read_text(encoding="utf-8") for path in FILES} == {
        name: render(content) for name, content in DASHBOARDS.items()
    }


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_panel_says_what_it_shows(path):
    for panel in panels(load(path)):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["expr"]
            assert target["legendFormat"]
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_panels_have_ids_and_places_of_their_own(path):
    all_panels = load(path)["panels"]
    ids = [panel["id"] for panel in all_panels]
    assert len(set(ids)) == len(ids)
    boxes = [panel["gridPos"] for panel in all_panels]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    for one, other in combinations(boxes, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below


def test_dashboards_are_told_apart_by_uid_and_title():
    for key in ("uid", "title"):
        found = [load(path)[key] for path in FILES]
        assert len(set(found)) == len(found) == len(DASHBOARDS)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_variables_that_exist_are_used(path):
    text = path.read_text(encoding="utf-8")
    known = {variable["name"] for variable in load(path)["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", text)) <= known | {"__rate_interval", "__range", "__all"}


def test_grafana_finds_what_the_readme_mounts():
    mounts = dict(re.findall(r"-v \"\$PWD/(\S+):(\S+)\"", (OBSERVABILITY / "README.md").read_text(encoding="utf-8")))
    assert all((OBSERVABILITY.parents[1] / source).exists() for source in mounts)
    assert mounts["deploy/observability/grafana/provisioning"] == "/etc/grafana/provisioning"
    provisioning = OBSERVABILITY / "grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/octavo.yml").read_text(encoding="utf-8"))["providers"]
    assert provider["options"]["path"] == mounts["deploy/observability/grafana/dashboards"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text(encoding="utf-8"))
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
