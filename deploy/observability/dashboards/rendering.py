"""From sections of panels to the JSON that Grafana reads: places, looks and the choices at the top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.observability.dashboards.panels import Panel, Query, Section

_WIDTH = 24  # columns of Grafana's grid
_SCHEMA_VERSION = 39  # of Grafana 10 and 11
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(uid: str, title: str, description: str, sections: Sequence[Section]) -> dict[str, Any]:
    """Put sections under each other and their panels side by side."""
    panels: list[dict[str, Any]] = []
    y = 0
    for section in sections:
        place = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": section.title, "gridPos": place, "panels": []})
        x, y, height = 0, y + 1, 0
        for panel in section.panels:
            if x + panel.width > _WIDTH:
                x, y, height = 0, y + height, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            panels.append(_panel(len(panels) + 1, panel, place))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["octavo", "llm"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "title": "Octavo", "tags": ["octavo"], "asDropdown": False}],
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _panel(panel_id: int, panel: Panel, place: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": panel_id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, **_look(panel)}, "overrides": []},
        "options": _options(panel),
        "targets": [_target(ref_id, query, panel.kind) for ref_id, query in zip("ABCDEF", panel.queries, strict=False)],
    }


def _target(ref_id: str, query: Query, kind: str) -> dict[str, Any]:
    is_table = kind == "table"
    return {
        "refId": ref_id,
        "datasource": _DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "format": kind if kind in ("heatmap", "table") else "time_series",
        "instant": is_table,
        "range": not is_table,
    }


def _look(panel: Panel) -> dict[str, Any]:
    """How values are drawn."""
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        return {
            "min": 0,
            "custom": {
                "lineWidth": 1,
                "fillOpacity": 30 if panel.stacked else 5,
                "showPoints": "never",
                "stacking": stacking,
            },
        }
    if panel.kind == "stat":
        steps: list[dict[str, str | float | None]] = [{"color": "green", "value": None}]
        if panel.warn_at is not None:
            steps.append({"color": "red", "value": panel.warn_at})
        return {"thresholds": {"mode": "absolute", "steps": steps}}
    return {}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "colorMode": "value"}
    if panel.kind == "heatmap":
        return {"calculate": False, "yAxis": {"unit": panel.unit}, "color": {"scheme": "Spectral"}, "cellGap": 1}
    return {}


def _variables() -> list[dict[str, Any]]:
    """The choices at the top: data source, then models, then the servers that have them."""
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _label_choice("model_name", "Model", "label_values(octavo_num_requests_running, model_name)"),
        _label_choice(
            "instance", "Server", 'label_values(octavo_num_requests_running{model_name=~"$model_name"}, instance)'
        ),
    ]


def _label_choice(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,  # whenever the time range changes
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }
