"""A pod of the cluster reads the metrics of all processes, as Prometheus does, and the dashboard is there."""

import json

from prometheus_client.parser import text_string_to_metric_families

from charts import dashboard
from tests.e2e.case import Case
from tests.e2e.environment import NAMESPACE

_READ = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


def metrics(case: Case, address: str) -> dict[str, float]:
    """The samples without labels but ``process``, by their family, as a pod gets them."""
    pod = case.kubectl.list("pods", NAMESPACE, "app.kubernetes.io/component=operator")[0]["metadata"]["name"]
    command = ("python3", "-c", _READ, f"http://{address}/metrics")
    text = case.kubectl("exec", f"--namespace={NAMESPACE}", pod, "--", *command)
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {f"{each.name} {each.labels.get('process', '')}".strip(): each.value for each in samples}


def test_prometheus_reaches_each_process(case: Case) -> None:
    for component, port in (("operator", 8080), ("supernode", 8003)):
        found = metrics(case, f"pantala-{component}-metrics.{NAMESPACE}.svc:{port}")
        assert 1 == found[f"pantala_build_info {component}"]
    peers = case.kubectl.list("pods", NAMESPACE, "app.kubernetes.io/component=peer")
    assert len(case.nodes) == len(peers)
    for peer in peers:
        host = peer["status"]["podIP"]
        found = metrics(case, f"[{host}]:65003" if ":" in host else f"{host}:65003")
        assert 1 == found["pantala_build_info peer"]
        assert 30 > found["pantala_peer_silence_seconds"]


def test_the_dashboard_waits_for_the_sidecar_of_grafana(case: Case) -> None:
    [made] = case.kubectl.list("configmaps", NAMESPACE, "grafana_dashboard=1")
    assert json.loads(dashboard.text()) == json.loads(made["data"]["pantala.json"])
