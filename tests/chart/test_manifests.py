"""What the chart installs: well-formed for every Kubernetes that it supports, and fitting together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.chart.pods import containers, workloads

Object = dict[str, Any]
Render = Callable[..., list[Object]]
CHART = Path(__file__).resolve().parents[2] / "charts" / "pantala"

VARIANTS = {
    "defaults": (),
    "everything off": (
        "crds.enabled=false",
        "rbac.aggregate=false",
        "networkPolicy.enabled=false",
        "uninstallNotice.enabled=false",
        "supernode.persistence.enabled=false",
    ),
    "everything set": (
        'imagePullSecrets=[{"name":"registry"}]',
        'image={"registry":"registry.example:5000","tag":"1.2.3","pullPolicy":"Always"}',
        'operator.secretNamespaces=["team-a","team-b"]',
        'operator.podAnnotations={"a":"b"}',
        'operator.podLabels={"c":"d"}',
        'operator.serviceAccount.annotations={"e":"f"}',
        'operator.extraArgs=["--relist-interval=60"]',
        'supernode.extraEnv=[{"name":"A","value":"b"}]',
        'supernode.persistence.storageClassName="fast"',
        'supernode.nodeSelector={"disk":"ssd"}',
        'supernode.priorityClassName="high"',
        'peer.affinity={"nodeAffinity":{}}',
        'peer.root="/srv/pantala"',
        "peer.maxUnavailable=3",
    ),
}


@pytest.mark.parametrize("version", ["1.31.0", "1.34.0", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_object_fits_the_schemas_of_kubernetes(render: Render, values: tuple[str, ...], version: str) -> None:
    objects = render(*values)
    assert {"Deployment", "StatefulSet", "DaemonSet"} <= {each["kind"] for each in objects}
    for each in objects:
        kubernetes_validate.validate(each, version, strict=each["kind"] != "CustomResourceDefinition")


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
def test_objects_are_labelled_and_in_the_release_namespace(render: Render, values: tuple[str, ...]) -> None:
    for each in render(*values):
        metadata = each["metadata"]
        assert {"app.kubernetes.io/name", "app.kubernetes.io/instance", "helm.sh/chart"} <= metadata["labels"].keys()
        assert metadata.get("namespace", "pantala-system") in {"pantala-system", "team-a", "team-b"}


def test_lint_has_nothing_to_say(helm: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout


def test_probes_and_limits_are_everywhere(render: Render) -> None:
    for name, container, _ in containers(render()):
        assert "memory" in container["resources"]["limits"]
        if name in {"operator/operator", "supernode/supernode", "peer/peer"}:
            ports = {port["name"] for port in container["ports"]}
            paths = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
            assert paths == ["/healthz", "/healthz", "/readyz"]
            assert container["readinessProbe"]["httpGet"]["port"] in ports


def test_services_put_no_variables_into_pods_that_would_be_read_as_settings(render: Render) -> None:
    assert all(template["spec"]["enableServiceLinks"] is False for template in workloads(render()).values())


def test_there_is_never_a_second_operator(render: Render) -> None:
    (deployment,) = [each for each in render() if each["kind"] == "Deployment"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]["type"]) == (1, "Recreate")


def test_peers_run_on_every_node(render: Render) -> None:
    assert workloads(render())["peer"]["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_the_supernode_trusts_exactly_the_accounts_that_operator_and_peers_run_as(render: Render) -> None:
    values = ('operator.serviceAccount.name="boss"', 'peer.serviceAccount={"create":false,"name":"node"}')
    pods = workloads(render(*values, namespace="elsewhere"))
    accounts = [pods[name]["spec"]["serviceAccountName"] for name in ("operator", "peer")]
    assert accounts == ["boss", "node"]
    arguments = pods["supernode"]["spec"]["containers"][0]["args"]
    assert "--trusted-operator=system:serviceaccount:elsewhere:boss" in arguments
    assert "--trusted-peer=system:serviceaccount:elsewhere:node" in arguments


def test_selectors_match_pods_and_tell_components_and_releases_apart(render: Render) -> None:
    objects = render()
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet", "DaemonSet"}:
            selector = each["spec"]["selector"]["matchLabels"]
            assert selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
            keys = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
            assert keys == selector.keys()


def test_network_policies_let_in_only_who_has_business_there(render: Render) -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in render() if each["kind"] == "NetworkPolicy"}
    component = "app.kubernetes.io/component"
    allowed = {
        (name, port["port"], peer["podSelector"]["matchLabels"][component])
        for name, spec in policies.items()
        for rule in spec.get("ingress", [])
        for port in rule["ports"]
        for peer in rule["from"]
    }
    expected = {
        ("pantala-supernode", "api", "operator"),
        ("pantala-supernode", "api", "peer"),
        ("pantala-supernode", "pieces", "peer"),
        ("pantala-peer", "pieces", "peer"),
    }
    assert expected == allowed
    assert {"pantala-operator", "pantala-supernode", "pantala-peer"} == policies.keys()


def test_dragonflys_clients_are_let_in_only_where_they_are_enabled(render: Render) -> None:
    def flagged(objects: list[Object]) -> bool:
        (sts,) = [each for each in objects if each["kind"] == "StatefulSet"]
        return "--dragonfly" in sts["spec"]["template"]["spec"]["containers"][0]["args"]

    objects = render("supernode.dragonfly.enabled=true")
    policies = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "NetworkPolicy"}
    open_to_all = {
        (name, port["port"])
        for name, spec in policies.items()
        for rule in spec.get("ingress", [])
        for port in rule["ports"]
        if "from" not in rule
    }
    assert {("pantala-supernode", "api"), ("pantala-supernode", "pieces"), ("pantala-peer", "pieces")} == open_to_all
    assert (True, False) == (flagged(objects), flagged(render()))


def test_the_volume_goes_with_the_release_unless_it_shall_stay(render: Render) -> None:
    for choice in ("Delete", "Retain"):
        (sts,) = [
            each for each in render(f'supernode.persistence.whenDeleted="{choice}"') if each["kind"] == "StatefulSet"
        ]
        assert choice == sts["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"]


def test_what_an_uninstall_keeps_is_said_by_a_hook_in_the_words_of_the_values(render: Render) -> None:
    values = ('peer.root="/srv/pantala"', 'supernode.persistence.whenDeleted="Retain"')
    for keep in (True, False):
        (job,) = [each for each in render(*values, f"crds.keep={str(keep).lower()}") if each["kind"] == "Job"]
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-delete"
        assert job["metadata"]["annotations"]["helm.sh/hook-output-log-policy"] == "hook-succeeded"
        _, *arguments = job["spec"]["template"]["spec"]["containers"][0]["command"]
        said = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout
        assert len(said.splitlines()) == 1
        assert "`rm -rf /srv/pantala`" in said
        assert "`kubectl delete -n pantala-system pvc data-pantala-supernode-0`" in said
        assert keep == ("`kubectl delete crd tasks.pantala.dev peers.pantala.dev`" in said)


@pytest.mark.parametrize("component", ["operator", "supernode", "peer"])
def test_each_process_knows_the_flags_that_the_chart_gives(render: Render, component: str) -> None:
    known = subprocess.run(
        [sys.executable, "-m", f"pantala_{component}", "--help"], capture_output=True, text=True, check=True
    ).stdout
    (container,) = workloads(render())[component]["spec"]["containers"]
    flags = {argument.partition("=")[0] for argument in container["args"]}
    assert flags
    assert set() == {flag for flag in flags if f"{flag} " not in known}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), "pantala/peer:0.1.0"),
        (('image.registry="r:5000"',), "r:5000/pantala/peer:0.1.0"),
        (('image={"registry":"r","tag":"2"}', 'peer.image.registry="s"'), "s/pantala/peer:2"),
        (('image.tag="2"', 'peer.image.tag="3"', 'peer.image.repository="p"'), "p:3"),
        ((f'peer.image={{"tag":"3","digest":"sha256:{"a" * 64}"}}',), f"pantala/peer@sha256:{'a' * 64}"),
    ],
)
def test_image_references(render: Render, values: tuple[str, ...], expected: str) -> None:
    pod = workloads(render(*values))["peer"]["spec"]
    assert {expected} == {each["image"] for each in pod["containers"] + pod["initContainers"]}


@pytest.mark.parametrize("release", ["a", "pantala", "x" * 53, "with.dots", "y" * 40 + "-" + "z" * 12])
def test_names_fit_whatever_the_release_is_called(render: Render, release: str) -> None:
    objects = render(release=release)
    for each in objects:
        name, kind = each["metadata"]["name"], each["kind"]
        if kind in {"Service", "StatefulSet"}:
            assert "." not in name
        # The controller of a StatefulSet writes its name with 11 more characters into a label's value.
        assert len(name) <= (52 if kind == "StatefulSet" else 63), name
        for value in label_values(each):
            assert len(value) <= 63, value
            assert value[0].isalnum(), value
            assert value[-1].isalnum(), value
    assert len(objects) == len({(each["kind"], each["metadata"]["name"]) for each in objects})


def label_values(each: Object) -> Iterator[str]:
    """Values of an object's labels and of its pods'."""
    yield from each["metadata"]["labels"].values()
    yield from each.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {}).values()


def test_crds_are_those_of_the_project_and_kept(render: Render) -> None:
    sources = [yaml.safe_load(path.read_text()) for path in sorted((CHART.parents[1] / "crds").glob("*.yaml"))]
    expected = {each["metadata"]["name"]: each["spec"] for each in sources}
    for keep in (True, False):
        crds = [each for each in render(f"crds.keep={str(keep).lower()}") if each["kind"] == "CustomResourceDefinition"]
        assert expected == {each["metadata"]["name"]: each["spec"] for each in crds}
        policies = {each["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for each in crds}
        assert {"keep" if keep else None} == policies
