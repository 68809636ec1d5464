"""Reading Grafana dashboards in tests: their panels, queries and the metrics these name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))


class Query(NamedTuple):
    panel: str
    expression: str

    def expanded(self, interval: str = "10s") -> str:
        """As Grafana would send it with every variable on `All`."""
        text = self.expression
        for name, value in (
            ("__rate_interval", interval),
            ("__interval", interval),
            ("__range", "1m"),
            ("instance", ".*"),
            ("group", ".*"),
            ("scale", ".*"),
        ):
            text = re.sub(rf"\$(?:{name}\b|\{{{name}(?::\w+)?\}})", value, text)
        return text


def load(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text("utf-8"))
    assert isinstance(content, dict)
    return content


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels without the row headings, those inside collapsed rows too."""
    everything = [panel for top in dashboard["panels"] for panel in (top, *top.get("panels", ()))]
    return [panel for panel in everything if panel["type"] != "row"]


def queries(dashboard: dict[str, Any]) -> list[Query]:
    """Queries of panels and of annotations."""
    found = [
        Query(panel["title"], target["expr"])
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]
    return found + [
        Query(f"annotation {note['name']}", note["expr"])
        for note in dashboard["annotations"]["list"]
        if "expr" in note
    ]


def metric_names(expression: str) -> set[str]:
    """Names of metrics in a PromQL expression that this service or its process exports."""
    return set(re.findall(r"\b(?:stream_detector|process|python)_[a-z0-9_]+", expression))
