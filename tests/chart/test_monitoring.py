"""The chart's part of monitoring: nothing by default, and then only what the values turn on."""

import json
import re

import pytest
import yaml

from charts import dashboard
from charts.metrics import FAMILIES
from pantala_process.metrics import BUILD, Family
from tests.chart.rendered import CHART, Helm, Object, Render
from tests.unit.test_docs import ROOT, anchors

ON = "monitoring.enabled=true"
ALL = (ON, *(f"monitoring.{part}.enabled=true" for part in ("monitors", "rules", "dashboard")))
KINDS = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
HERE = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def admitted(policies: dict[str, Object]) -> dict[str, Object]:
    """Which clients outside of Pantala a NetworkPolicy admits to the health port, by component."""
    return {
        name: rule["from"]
        for name, policy in policies.items()
        for rule in policy["spec"].get("ingress", [])
        if [{"port": "health"}] == rule["ports"] and "app.kubernetes.io/component" not in str(rule["from"])
    }


def test_by_default_no_client_reads_metrics(render: Render) -> None:
    objects = render()
    assert not KINDS & {each["kind"] for each in objects}
    assert {} == admitted(objects.of_kind("NetworkPolicy"))
    assert "metrics-open" not in objects.flags("supernode/supernode")
    assert not [name for name in objects.of_kind("ConfigMap") if name.endswith("dashboard")]


@pytest.mark.parametrize("tls", ["true", "false"])
def test_prometheus_gets_the_health_ports_and_no_others(render: Render, tls: str) -> None:
    objects = render(ON, f"tls.enabled={tls}")
    names = {f"pantala-{component}" for component in ("operator", "supernode", "peer")}
    assert {name: [HERE] for name in names} == admitted(objects.of_kind("NetworkPolicy"))
    for name, policy in objects.of_kind("NetworkPolicy").items():
        others = [rule for rule in policy["spec"]["ingress"] if [HERE] != rule["from"]]
        former = render(f"tls.enabled={tls}").of_kind("NetworkPolicy")[name]["spec"].get("ingress", [])
        assert former == others
    assert "metrics-open" in objects.flags("supernode/supernode")
    assert not KINDS & {each["kind"] for each in objects}


def test_an_empty_list_of_clients_admits_none(render: Render) -> None:
    """For Kubernetes, an empty ``from`` would admit all."""
    objects = render(ON, "monitoring.from=[]")
    assert {} == admitted(objects.of_kind("NetworkPolicy"))
    rules = [rule for each in objects.of_kind("NetworkPolicy").values() for rule in each["spec"].get("ingress", [])]
    assert all(rule["from"] for rule in rules)


def test_monitors_find_the_ports_of_all_pods(render: Render) -> None:
    objects = render(*ALL, 'monitoring.labels={"release":"stack"}', 'monitoring.monitors.interval="15s"')
    services = {
        name.removesuffix("-metrics"): each
        for name, each in objects.of_kind("Service").items()
        if name.endswith("-metrics")
    }
    monitors = objects.of_kind("ServiceMonitor")
    assert {"pantala-operator", "pantala-supernode"} == monitors.keys() == services.keys()
    for name, monitor in monitors.items():
        selector = monitor["spec"]["selector"]["matchLabels"]
        assert selector.items() <= services[name]["metadata"]["labels"].items()
        [endpoint], [port] = monitor["spec"]["endpoints"], services[name]["spec"]["ports"]
        assert (endpoint["port"], "15s", "health") == (port["name"], endpoint["interval"], port["targetPort"])
        component = name.removeprefix("pantala-")
        [container] = objects.pods[component]["spec"]["containers"]
        assert {"health": port["port"]}.items() <= {
            each["name"]: each["containerPort"] for each in container["ports"]
        }.items()
    peers = objects.one("PodMonitor")
    assert peers["spec"]["selector"]["matchLabels"].items() <= objects.pods["peer"]["metadata"]["labels"].items()
    assert "health" == peers["spec"]["podMetricsEndpoints"][0]["port"]
    for each in objects:
        if each["kind"] in KINDS:
            assert "stack" == each["metadata"]["labels"]["release"]


def test_each_alert_links_to_its_runbook(render: Render) -> None:
    found = anchors(ROOT / "docs" / "monitoring.md")
    rule = render(*ALL, 'monitoring.rules.runbooks="https://x/y"').one("PrometheusRule")
    alerts = rule["spec"]["groups"][0]["rules"]
    assert 8 <= len(alerts) <= 10
    for alert, source in zip(alerts, ALERTS, strict=True):
        assert (alert["alert"], alert["expr"]) == (source["alert"], source["expr"])
        link = alert["annotations"]["runbook_url"]
        assert f"https://x/y#{alert['alert'].lower()}" == link
        assert link.partition("#")[2] in found
        assert {"summary", "description"} < alert["annotations"].keys()


def test_the_dashboard_is_a_configmap_for_the_sidecar(render: Render) -> None:
    objects = render(*ALL, 'monitoring.dashboard.annotations={"grafana_folder":"Pantala"}')
    made = objects.of_kind("ConfigMap")["pantala-dashboard"]
    assert ("1", "Pantala") == (
        made["metadata"]["labels"]["grafana_dashboard"],
        made["metadata"]["annotations"]["grafana_folder"],
    )
    assert json.loads(dashboard.text()) == json.loads(made["data"]["pantala.json"])


@pytest.mark.parametrize("part", ["monitors", "rules", "dashboard"])
def test_one_value_turns_all_off(render: Render, part: str) -> None:
    assert render() == render(f"monitoring.{part}.enabled=true")


@pytest.mark.parametrize(
    "wrong",
    [
        'monitoring.from="monitoring"',
        "monitoring.monitors.interval=30",
        'monitoring.rules.runbooks="a b"',
        "monitoring.rule.enabled=true",
    ],
)
def test_wrong_values_are_refused(helm: Helm, wrong: str) -> None:
    result = helm("template", "pantala", str(CHART), "--set-json", wrong)
    assert 0 != result.returncode
    assert "monitoring" in result.stderr


def test_queries_and_alerts_name_only_families_that_exist() -> None:
    families: list[Family] = [BUILD, *(each for found in FAMILIES.values() for each in found)]
    known = {each.name for each in families}
    assert len(families) == len(known)
    queries = [query.text for panels in dashboard.ROWS.values() for panel in panels for query in panel.queries]
    named = set(re.findall(r"\bpantala_\w+", " ".join([*queries, *(each["expr"] for each in ALERTS)])))
    assert 15 < len(named)
    assert set() == named - known
