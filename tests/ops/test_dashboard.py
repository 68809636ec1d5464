"""The provisioned dashboard: sound as a file, and every query answered by a real Prometheus."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.adapters.prometheus import PrometheusTelemetry
from tests.ops.dashboards import DASHBOARDS, load, metric_names, panels, queries
from tests.ops.prometheus_server import Prometheus, prometheus_server
from tests.ops.running_detector import running_detector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUIET = {"annotation Model swapped", "Transaction time, p50 and p99"}
"""Queries that rightly give nothing most of the time, or unless delivery is exactly_once; they must

still be understood.
"""


@pytest.fixture(scope="module", params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    path: Path = request.param
    return load(path)


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    with (
        running_detector() as address,
        prometheus_server({"stream-detector": [address]}) as server,
    ):
        server.wait_for('up{job="stream-detector"} == 1')
        server.wait_for('increase(stream_detector_events_total{status="opened"}[10s]) > 0')
        server.wait_for('increase(stream_detector_model_reloads_total{outcome="swapped"}[10s]) > 0')
        yield server


def exported() -> dict[str, set[str]]:
    """Metric as PromQL names it -> the names of its labels."""
    telemetry = PrometheusTelemetry()
    telemetry.metrics.declare("a", [1])
    telemetry.metrics.declare_topics(["t"])
    telemetry.model("a", "v")
    names: dict[str, set[str]] = {}
    for family in telemetry.registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        for suffix in suffixes.get(family.type, [""]):
            labels = {label for sample in family.samples for label in sample.labels}
            names[family.name + suffix] = labels
    return names


@pytest.mark.prometheus
def test_every_query_returns_data(dashboard: dict[str, Any], prometheus: Prometheus) -> None:
    time.sleep(3)  # a few scrapes more, for rates
    empty = []
    for query in queries(dashboard):
        result = prometheus.query(query.expanded())
        numbers = [float(series["value"][1]) for series in result]
        if not any(math.isfinite(number) for number in numbers) and query.panel not in QUIET:
            empty.append(f"{query.panel}: {query.expanded()}")
    assert not empty, "\n".join(empty)


@pytest.mark.prometheus
def test_every_variable_finds_values(dashboard: dict[str, Any], prometheus: Prometheus) -> None:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
        assert match, variable["name"]
        metric, label = match.groups()
        assert prometheus.query(f"count by ({label}) ({metric})"), variable["name"]


@pytest.mark.prometheus
def test_the_histograms_of_a_scrape_hold_what_was_scored(prometheus: Prometheus) -> None:
    result = prometheus.query(
        "sum(stream_detector_score_ratio_count) / sum(stream_detector_windows_scored_total)"
    )
    assert float(result[0]["value"][1]) == 1.0
    median = prometheus.value(
        "histogram_quantile(0.5, sum by (le) (stream_detector_score_ratio_bucket))"
    )
    assert 0.001 < median < 1.0, "most windows are normal: below the score of the threshold"


def test_ids_are_unique_and_the_uid_is_stable(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert dashboard["uid"] == "stream-detector"
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(titles) == len(set(titles))


def test_every_metric_it_names_exists_with_the_labels_it_uses(dashboard: dict[str, Any]) -> None:
    known = exported()
    for query in queries(dashboard):
        names = metric_names(query.expression)
        assert names, query
        assert names <= known.keys(), (query, names - known.keys())
        used = re.findall(r'[{,]\s*(\w+)\s*=~?"', query.expression)
        used += [
            label
            for labels in re.findall(r"\bby \(([^)]*)\)", query.expression)
            for label in re.split(r",\s*", labels)
        ]
        allowed = {"instance", "job"}.union(*(known[name] for name in names))
        if query.expression.startswith(("sum by (topic", "sum(stream_detector_consumer")):
            allowed |= {"topic", "partition"}  # there are none before an assignment
        assert set(used) <= allowed, (query, set(used) - allowed)


def test_every_metric_of_the_catalogue_is_shown(dashboard: dict[str, Any]) -> None:
    shown = set().union(*(metric_names(query.expression) for query in queries(dashboard)))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    own = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in exported()
        if name.startswith("stream_detector_")
    }
    assert own <= families, own - families


def test_every_panel_is_explained_and_has_a_unit(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        assert len(panel["description"]) > 30, panel["title"]
        unit = panel["fieldConfig"]["defaults"].get("unit")
        if panel["type"] == "heatmap":
            unit = panel["options"]["yAxis"]["unit"]
        assert unit, panel["title"]


def test_the_data_source_is_chosen_by_the_variable_alone(dashboard: dict[str, Any]) -> None:
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert names[0] == "datasource"
    for panel in panels(dashboard):
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
