"""Dashboard and Prometheus rules ask only for what hackwatch tells, in a way that fits the kind of each metric."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import promql_parser as promql
import pytest
import yaml

from hackwatch import metrics
from hackwatch.counts import Counts
from tests.conftest import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((GRAFANA / "hackwatch.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))["groups"]

#: What Prometheus itself writes on every sample; `site` is set at the target (deploy/prometheus, the Helm chart).
SCRAPED = {"job", "instance", "site"}
#: Functions that take the range of a counter, and of a gauge.
OF_COUNTERS, OF_GAUGES = {"rate", "irate", "increase"}, {"deriv", "delta", "min_over_time", "max_over_time"}


def say_everything() -> None:
    """Use every metric once, so that the registry shows all labels."""
    metrics.add_records("visit", 0, Counts())
    metrics.add_unknown_fields("visit", {})
    metrics.set_position("visit", {0: 0}, watermark=0.0, wall=0.0)
    metrics.set_position("visit", {0: 0}, watermark=0.0, wall=0.0, in_messages=True)
    metrics.add_latencies("visit", np.zeros(1))
    metrics.set_state_rows({"windows": 0})
    metrics.set_lake_write("visit", 0.0)
    metrics.set_model("visit", "visit-000001")
    metrics.add_alerts([("rule", "high")])
    metrics.add_route("soc")
    metrics.set_route_pending("soc", 0)


@pytest.fixture(scope="module", autouse=True)
def told() -> dict[str, tuple[str, set[str]]]:
    """Sample name -> (counter, gauge or bucket, its labels), as a scrape shows them."""
    say_everything()
    kinds = {}
    for family in metrics.REGISTRY.collect():
        for sample in family.samples:
            kind = {"histogram": "counter", "stateset": "gauge"}.get(family.type, family.type)
            kind = "bucket" if sample.name.endswith("_bucket") else kind
            kinds[sample.name] = (kind, set(sample.labels))
    return kinds


def in_grafana(query: str) -> str:
    """The query with Grafana's own variables filled in."""
    return query.replace("$__rate_interval", "1m").replace("$__range", "1h")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Every query, with where it stands."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", in_grafana(target["expr"])
    for note in DASHBOARD["annotations"]["list"]:
        yield f"annotation {note['name']}", in_grafana(note["expr"])
    for group in RULES:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


QUERIES = dict(queries())


def problems(query: str, told: dict[str, tuple[str, set[str]]]) -> list[str]:
    """What in a query does not fit the metrics."""
    found: list[str] = []

    def look(node: Any, around: str, labels_wanted: set[str]) -> None:
        if isinstance(node, promql.VectorSelector):
            found.extend(_selector(node, around, labels_wanted, told))
        elif isinstance(node, promql.MatrixSelector):
            look(node.vector_selector, around, labels_wanted)
        elif isinstance(node, promql.Call):
            name = node.func.name
            for argument in node.args:
                look(argument, name if name in OF_COUNTERS | OF_GAUGES else around, labels_wanted)
            if name == "histogram_quantile":
                found.extend(_quantile(node, told))
        elif isinstance(node, promql.AggregateExpr):
            by = set(node.modifier.labels) if node.modifier else set()
            look(node.expr, around, by)
        elif isinstance(node, promql.BinaryExpr):
            look(node.lhs, around, labels_wanted)
            look(node.rhs, around, labels_wanted)
        elif isinstance(node, promql.ParenExpr | promql.SubqueryExpr | promql.UnaryExpr):
            look(node.expr, around, labels_wanted)

    look(promql.parse(query), "", set())
    return found


def _selector(
    node: promql.VectorSelector, around: str, labels_wanted: set[str], told: dict[str, tuple[str, set[str]]]
) -> Iterator[str]:
    if node.name not in told:
        yield f"no metric is called {node.name}"
        return
    kind, labels = told[node.name]
    asked = {matcher.name for matcher in node.matchers.matchers} | labels_wanted
    if strange := asked - labels - SCRAPED:
        yield f"{node.name} has no label {', '.join(sorted(strange))}"
    if kind == "gauge" and around in OF_COUNTERS:
        yield f"{around} of the gauge {node.name}"
    if kind != "gauge" and around not in OF_COUNTERS:
        yield f"{node.name} only ever grows: take its rate or increase"


def _quantile(node: promql.Call, told: dict[str, tuple[str, set[str]]]) -> Iterator[str]:
    names = re.findall(r"hackwatch_\w+", node.args[1].prettify())
    if not names or any(told.get(name, ("", set()))[0] != "bucket" for name in names):
        yield f"a quantile of {', '.join(names)}, not of buckets"
    inner = node.args[1]
    if not isinstance(inner, promql.AggregateExpr) or inner.modifier is None or "le" not in inner.modifier.labels:
        yield "a quantile needs the label le"


@pytest.mark.parametrize("place", QUERIES)
def test_every_query_fits_the_metrics(place: str, told: dict[str, tuple[str, set[str]]]) -> None:
    assert problems(QUERIES[place], told) == []


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("sum(rate(hackwatch_record_total[1m]))", "no metric is called hackwatch_record_total"),
        ("sum by (streams) (rate(hackwatch_records_total[1m]))", "hackwatch_records_total has no label streams"),
        ('rate(hackwatch_records_total{result="late"}[1m])', "hackwatch_records_total has no label result"),
        ("rate(hackwatch_lag_bytes[1m])", "rate of the gauge hackwatch_lag_bytes"),
        ("hackwatch_records_total > 5", "hackwatch_records_total only ever grows: take its rate or increase"),
        (
            "histogram_quantile(0.9, sum by (le) (rate(hackwatch_batch_seconds_count[1m])))",
            "a quantile of hackwatch_batch_seconds_count, not of buckets",
        ),
        ("histogram_quantile(0.9, rate(hackwatch_batch_seconds_bucket[1m]))", "a quantile needs the label le"),
    ],
)
def test_a_wrong_query_is_found(query: str, problem: str, told: dict[str, tuple[str, set[str]]]) -> None:
    assert problem in problems(query, told)


def test_every_metric_is_on_a_panel() -> None:
    shown = set(re.findall(r"hackwatch_\w+", " ".join(t["expr"] for panel in panels() for t in panel["targets"])))
    for family in metrics.REGISTRY.collect():
        assert shown & {sample.name for sample in family.samples}, f"{family.name} is on no panel"


def test_legends_name_labels_that_the_query_keeps() -> None:
    for panel in panels():
        for target in panel["targets"]:
            by = re.search(r"by \(([\w, ]+)\)", target["expr"])
            kept = set(by[1].split(", ")) if by else {"hackwatch_engine_state"}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, panel["title"]


def test_the_variables_choose_what_every_panel_shows() -> None:
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "job", "site", "instance"]
    for place, query in queries():
        if place.startswith("alert "):
            continue
        for selector in re.findall(r"{(.*?)}", query):
            assert {f'{name}=~"${name}"' for name in names[1:]} <= set(selector.split(", ")), place


def test_panels_do_not_overlap_and_say_what_they_mean() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith(".")
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identities) == len(set(identities))


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    rules = [rule for group in RULES for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "next_step"}
        labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert labels <= set(re.findall(r"\w+", " ".join(re.findall(r"by \((.*?)\)", rule["expr"])))), rule["alert"]


def test_prometheus_reads_these_rules_and_grafana_this_dashboard() -> None:
    prometheus = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    assert prometheus["rule_files"] == ["alerts.yml"]
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"][0]["labels"].keys() <= SCRAPED
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))
    assert source["datasources"][0]["type"] == DASHBOARD["templating"]["list"][0]["query"]
