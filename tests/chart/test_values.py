"""Values that fit the chart to a cluster: users, labels, volumes, networks, spreading and logs."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.rendered import CHART, Helm, Render

COMPONENTS = {"operator": "Deployment", "supernode": "StatefulSet", "peer": "DaemonSet"}
VOLUME = '[{"name":"more","emptyDir":{}}]'
MOUNT = '[{"name":"more","mountPath":"/more"}]'


@pytest.mark.parametrize("component", COMPONENTS)
def test_more_volumes_are_mounted_in_the_main_container(render: Render, component: str) -> None:
    objects = render(f"{component}.extraVolumes={VOLUME}", f"{component}.extraVolumeMounts={MOUNT}")
    for name, template in objects.pods.items():
        volumes = [each["name"] for each in template["spec"].get("volumes", ())]
        assert (name == component) == ("more" in volumes)
    found = {
        name for name, one, _ in objects.containers() for each in one.get("volumeMounts", ()) if each["name"] == "more"
    }
    assert {f"{component}/{component}"} == found


@pytest.mark.parametrize("component", COMPONENTS)
def test_dns_settings_belong_to_one_component(render: Render, component: str) -> None:
    pods = render(f'{component}.dnsConfig={{"options":[{{"name":"ndots","value":"2"}}]}}').pods
    assert [component] == [name for name, template in pods.items() if "dnsConfig" in template["spec"]]


def test_common_labels_are_on_all_objects_and_pods_but_in_no_selector(render: Render) -> None:
    objects = render('commonLabels={"cost":"42"}')
    for each in objects:
        assert "42" == each["metadata"]["labels"]["cost"], each["metadata"]["name"]
        selector = each["spec"].get("selector", {}) if each["kind"] in {*COMPONENTS.values(), "Service"} else {}
        assert "cost" not in yaml.safe_dump(selector)
    assert {"42"} == {template["metadata"]["labels"]["cost"] for template in objects.pods.values()}
    claim = objects.one("StatefulSet")["spec"]["volumeClaimTemplates"][0]
    assert "cost" not in claim["metadata"]["labels"], "the API server lets no upgrade change it"


def test_a_label_of_a_pod_wins_over_a_common_one_but_not_over_those_of_selectors(render: Render) -> None:
    labels = '{"cost":"1","app.kubernetes.io/component":"other"}'
    objects = render('commonLabels={"cost":"42"}', f"peer.podLabels={labels}")
    found = objects.pods["peer"]["metadata"]["labels"]
    assert ("1", "peer") == (found["cost"], found["app.kubernetes.io/component"])


def empty(values: dict[str, Any], above: str = "") -> Iterator[str]:
    """The names of the values whose default is empty."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from empty(value, f"{above}{name}.")
        elif not value and not isinstance(value, bool):
            yield above + name


def test_null_means_the_default_of_a_value_that_is_empty(render: Render) -> None:
    """Helm's users write it to take back a value of another file."""
    nulls = [f"{name}=null" for name in empty(yaml.safe_load((CHART / "values.yaml").read_text()))]
    assert 80 < len(nulls)
    assert render() == render(*nulls)
    numbers = '{"user":null,"group":null,"fsGroup":null}'
    for name in ("operator", "supernode"):
        assert render(f"{name}.runAs={numbers}") == render(f"{name}.runAs=null")
    one = 'registries={"docker.io":{"endpoint":"https://mirror.corp"}}'
    flags = render("mirror.registries=null", one).flags("supernode/supernode")
    assert "docker.io=https://mirror.corp" == flags["registries"]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ('commonLabels={"app.kubernetes.io/name":"x"}', "commonLabels"),
        ('logLevel="loud"', "logLevel"),
        ("operator.runAs.user=0", "runAs"),
        ('supernode={"replicas":2,"persistence":{"existingClaim":"old"}}', "two would share the volume"),
        ("peer.runAs.user=null", "peer.runAs.user is empty"),
        ("peer.runAs=null", "peer.runAs.user is empty"),
        ('sources.allowed=["http://files.corp"]', "/sources/allowed/0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(helm: Helm, value: str, error: str) -> None:
    done = helm("template", "pantala", str(CHART), "--set-json", value)
    assert 0 != done.returncode
    assert error in done.stderr


@pytest.mark.parametrize("container", ["operator/operator", "supernode/supernode", "peer/peer", "peer/runtime"])
def test_the_level_of_logs_reaches_each_process(render: Render, container: str) -> None:
    assert ("info", "debug") == tuple(
        render(*values).flags(container)["log-level"] for values in ((), ('logLevel="debug"',))
    )


def test_the_user_of_the_peers_owns_its_folders_and_the_mirrors_token(render: Render) -> None:
    objects = render('peer.runAs={"user":1001,"group":1002,"fsGroup":1003}')
    context = objects.pods["peer"]["spec"]["securityContext"]
    assert (1001, 1002, 1003) == tuple(context[name] for name in ("runAsUser", "runAsGroup", "fsGroup"))
    assert "1001:1002" == objects.container("peer/directories")["command"][-1]
    assert "1001:1002" == objects.flags("peer/mirror")["mirror-token-owner"]
    runtime = objects.container("peer/runtime")["securityContext"]
    assert (1001, 0) == (runtime["runAsUser"], runtime["runAsGroup"])


def test_the_folders_are_made_for_the_owner_of_the_values(render: Render) -> None:
    script, root, owner = render().container("peer/directories")["command"][2:]
    assert ("/var/lib/pantala", "65532:65532") == (root, owner)
    assert 2 == script.count('install -d -o "${1%:*}" -g "${1#*:}"')


@pytest.mark.parametrize("component", ["operator", "supernode"])
def test_constraints_spread_the_pods_of_their_component(render: Render, component: str) -> None:
    def spread(*values: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = render(*values).pods[component]["spec"]["topologySpreadConstraints"]
        return found

    selector = render().one(COMPONENTS[component])["spec"]["selector"]
    usual = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    assert [usual | {"labelSelector": selector}] == spread()
    zones = {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    given = str(zones).replace("'", '"')
    assert [zones | {"labelSelector": selector}] == spread(f"{component}.topologySpreadConstraints=[{given}]")
    own = zones | {"labelSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}
    given = str(own).replace("'", '"')
    assert [own] == spread(f"{component}.topologySpreadConstraints=[{given}]")


def test_update_strategies_replace_the_defaults(render: Render) -> None:
    assert {"maxUnavailable": "10%"} == render().of_kind("DaemonSet")["pantala-peer"]["spec"]["updateStrategy"][
        "rollingUpdate"
    ]
    assert {"maxUnavailable": 1, "maxSurge": 1} == render().one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    for component, kind in COMPONENTS.items():
        field = "strategy" if kind == "Deployment" else "updateStrategy"
        choice = "Recreate" if kind == "Deployment" else "OnDelete"
        found = render(f'{component}.updateStrategy={{"type":"{choice}"}}').of_kind(kind)[f"pantala-{component}"]
        assert {"type": choice} == found["spec"][field]


def test_supernodes_in_the_network_of_their_nodes_reach_the_operator(render: Render) -> None:
    objects = render("supernode.hostNetwork=true")
    pod = objects.pods["supernode"]["spec"]
    assert (True, "ClusterFirstWithHostNet") == (pod["hostNetwork"], pod["dnsPolicy"])
    assert "hostNetwork" not in objects.pods["peer"]["spec"]
    (first, *_) = objects.of_kind("NetworkPolicy")["pantala-operator"]["spec"]["ingress"]
    assert "from" not in first
    assert "hostNetwork" not in render().pods["supernode"]["spec"]


def test_an_existing_claim_replaces_the_template(render: Render) -> None:
    objects = render('supernode.persistence.existingClaim="old"')
    spec = objects.one("StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in spec
    volumes = {each["name"]: each for each in spec["template"]["spec"]["volumes"]}
    assert {"claimName": "old"} == volumes["data"]["persistentVolumeClaim"]
    assert "growth" not in objects.pods
