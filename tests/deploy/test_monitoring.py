"""Dashboard and rules against the code: what they name is exported, with the labels they use; what they link exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import HistogramMetricFamily

from space2vec.stream.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "space2vec.json"
SCRAPED = {"job", "instance"}  # labels that Prometheus adds

_METRIC = re.compile(r"\bspace2vec_[a-z0-9_]+")
_RECORDED = re.compile(r"\bspace2vec:[a-z0-9_:]+")
_SELECTOR = re.compile(r"\b(space2vec_[a-z0-9_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where an expression stands, and the expression."""
    for rule in rules():
        yield f"rules.yaml: {rule.get('record') or rule['alert']}", rule["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield f"dashboard: {panel['title']}", target["expr"]
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            yield f"dashboard: ${variable['name']}", variable["query"]["query"]


EXPRESSIONS = list(expressions())


def family_of(series: str) -> str:
    """Name of the metric that a series belongs to."""
    for suffix in ("_bucket", "_sum", "_count"):
        name = series.removesuffix(suffix)
        if name != series and name in METRICS and METRICS[name].kind is HistogramMetricFamily:
            return name
    return series


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_every_metric_named_is_exported(where: str, expression: str) -> None:
    for series in _METRIC.findall(expression):
        assert family_of(series) in METRICS, f"{where}: nothing exports {series}"
        histogram = METRICS[family_of(series)].kind is HistogramMetricFamily
        assert histogram == (family_of(series) != series), f"{where}: {series}"


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_every_label_used_is_one_the_metric_has(where: str, expression: str) -> None:
    for series, selector in _SELECTOR.findall(expression):
        known = SCRAPED | set(METRICS[family_of(series)].labels)
        assert set(_MATCHER.findall(selector)) <= known, f"{where}: {series}"
    named = [METRICS[family_of(series)].labels for series in _METRIC.findall(expression)]
    known = SCRAPED | {"le", "class", "classifier"} | {label for labels in named for label in labels}
    for labels in _GROUPING.findall(expression):
        assert {label.strip() for label in labels.split(",") if label.strip()} <= known, where


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_every_recorded_series_used_is_recorded(where: str, expression: str) -> None:
    assert set(_RECORDED.findall(expression)) <= {rule.get("record") for rule in rules()}, where


def test_every_alert_says_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert alerts
    for rule in alerts:
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        titles = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
        assert anchor in {title.lower().replace(" ", "-") for title in titles}, rule["alert"]
        assert rule["alert"] in (ROOT / path).read_text()
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


def test_most_of_what_is_exported_can_be_seen() -> None:
    seen = {family_of(series) for _, expression in EXPRESSIONS for series in _METRIC.findall(expression)}
    assert set(METRICS) - seen == {"space2vec_messages_consumed_total", "space2vec_messages_empty_total"}


def test_panels_have_places_of_their_own_and_titles() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)


# -- Prometheus' own judgement ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool on the path (Debian's package prometheus): rules not evaluated")
    return found


def run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", RULES)


def test_prometheus_takes_the_configuration(promtool: str, tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    text = (DEPLOY / "prometheus" / "prometheus.yaml").read_text()
    assert "/etc/prometheus/rules.yaml" in text
    (tmp_path / "prometheus.yaml").write_text(text.replace("/etc/prometheus/", ""))
    run(promtool, "check", "config", "prometheus.yaml", cwd=tmp_path)


def test_the_rules_raise_what_they_should_and_nothing_else(promtool: str, tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("rules_test.yaml"), tmp_path)
    run(promtool, "test", "rules", "rules_test.yaml", cwd=tmp_path)


def test_prometheus_parses_every_expression_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    asked = [e.replace("$__rate_interval", "5m") for w, e in EXPRESSIONS if w.startswith("dashboard")]
    asked = [e for e in asked if not e.startswith("label_values")]
    groups = [{"name": "d", "rules": [{"record": f"r{i}", "expr": e} for i, e in enumerate(asked)]}]
    (tmp_path / "dashboard.yaml").write_text(yaml.safe_dump({"groups": groups}))
    run(promtool, "check", "rules", "dashboard.yaml", cwd=tmp_path)
