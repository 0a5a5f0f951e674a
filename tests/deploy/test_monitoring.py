"""Dashboard and alerts ask for metrics that exist, Ray's or ours, by labels that they have."""

from __future__ import annotations

import re
from pathlib import Path

import ray

from scuba_ray.actors import metrics
from tests.deploy.files import DEPLOY, load, values

MONITORING = DEPLOY / "monitoring"
OURS = {
    f"ray_{name}{end}"
    for kind, name in re.findall(r'(Counter|Gauge|Histogram)\("(scuba_\w+)"', Path(metrics.__file__).read_text())
    for end in (("_bucket", "_sum", "_count") if kind == "Histogram" else ("",))
}
RAYS = "\n".join(
    path.read_text() for path in (Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards").glob("*.py")
)
"""Ray's own dashboards: what they ask for, it exports."""


def queries() -> list[str]:
    rules = [rule for group in load(MONITORING / "alerts.yml")["groups"] for rule in group["rules"]]
    return [*values(load(MONITORING / "grafana.json"), "expr"), *(rule["expr"] for rule in rules)]


def test_every_metric_exists() -> None:
    named = {name for query in queries() for name in re.findall(r"\bray_\w+", query)}
    scuba = {name for name in named if name.startswith("ray_scuba")}
    assert scuba <= OURS, "see scuba_ray/actors/metrics.py"
    assert {"ray_scuba_rows_total", "ray_scuba_chunk_seconds_bucket", "ray_scuba_bad_rows_total"} <= scuba
    unknown = {name for name in named - scuba if not re.search(rf"\b{name}\b", RAYS)}
    assert unknown == set()
    variables = [
        one["query"]["query"] for one in load(MONITORING / "grafana.json")["templating"]["list"] if one["type"] == "query"
    ]
    for query in variables:
        name = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert name
        assert name[1] in OURS or re.search(rf"\b{name[1]}\b", RAYS)


def test_our_metrics_are_asked_for_by_their_labels() -> None:
    for query in queries():
        if "ray_scuba" in query:
            used = {label for group in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
            used |= set(re.findall(r"[{,](\w+)=~", query))
            assert used <= {*metrics.LABELS, "le"}, query


def test_brackets_close_and_every_panel_has_a_place_of_its_own() -> None:
    for query in queries():
        assert query.count("(") == query.count(")")
        assert query.count("{") == query.count("}")
    panels = load(MONITORING / "grafana.json")["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]


def test_alerts_say_what_to_do_and_are_loaded() -> None:
    assert load(MONITORING / "prometheus.yml")["rule_files"] == ["alerts.yml"]
    rules = [rule for group in load(MONITORING / "alerts.yml")["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert {"summary", "description"} == set(rule["annotations"])
        assert re.fullmatch(r"\d+m", rule["for"])
