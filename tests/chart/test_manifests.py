"""What the chart installs: well-formed for every Kubernetes that it supports, and fitting together."""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pantala_protocol import __version__
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
        "mirror.enabled=false",
        "prefetch.enabled=false",
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
        "supernode.replicas=3",
        "supernode.dragonfly.enabled=true",
        'supernode.cache={"seconds":3600,"diskHigh":70,"diskLow":60}',
        'supernode.rates={"origin":"100M","serve":"1Gi","link":"125M"}',
        'supernode.nodeSelector={"disk":"ssd"}',
        'supernode.priorityClassName="high"',
        'peer.affinity={"nodeAffinity":{}}',
        'peer.root="/srv/pantala"',
        "peer.maxUnavailable=3",
        'mirror={"registries":["http://registry.local:5000","docker.io"],"resolve":true,"cacheSize":"20Gi"}',
        'mirror={"onlyListed":true,"blobSeconds":60,"certsD":"/etc/containerd/certs.d:/etc/docker/certs.d"}',
        'mirror.authorities={"b.example":{"secretName":"ca","key":"ca.crt"},"a.example:5000":{"secretName":"c","key":"d"}}',
        'containerd={"socket":"/run/k3s/containerd/containerd.sock","content":"/var/lib/k3s/content"}',
        'runtime.extraArgs=["--image-filesystem=/var/lib/k3s/content"]',
        'runtime.extraEnv=[{"name":"A","value":"b"}]',
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
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
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


def test_the_supernode_trusts_exactly_the_accounts_that_the_three_run_as(render: Render) -> None:
    values = (
        'supernode.serviceAccount.name="super"',
        'operator.serviceAccount.name="boss"',
        'peer.serviceAccount={"create":false,"name":"node"}',
    )
    pods = workloads(render(*values, namespace="elsewhere"))
    accounts = [pods[name]["spec"]["serviceAccountName"] for name in ("operator", "peer", "supernode")]
    assert accounts == ["boss", "node", "super"]
    arguments = pods["supernode"]["spec"]["containers"][0]["args"]
    assert "--trusted-operator=system:serviceaccount:elsewhere:boss" in arguments
    assert "--trusted-peer=system:serviceaccount:elsewhere:node" in arguments
    assert "--trusted-supernode=system:serviceaccount:elsewhere:super" in arguments


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
        ("pantala-supernode", "api", "supernode"),
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


def test_dragonflys_clients_have_a_service_that_keeps_each_with_one_supernode(render: Render) -> None:
    def services(*values: str) -> dict[str, Object]:
        return {each["metadata"]["name"]: each["spec"] for each in render(*values) if each["kind"] == "Service"}

    assert {"pantala-supernode"} == services().keys()
    service = services("supernode.dragonfly.enabled=true")["pantala-supernode-dragonfly"]
    assert "ClientIP" == service["sessionAffinity"]
    assert {8001, 8002} == {port["port"] for port in service["ports"]}
    assert "clusterIP" not in service


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
        (container,) = job["spec"]["template"]["spec"]["containers"]
        arguments = [each for each in container["command"][1:] if not each.startswith("--daemonset=")]
        said = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout
        assert len(said.splitlines()) == 1
        assert "`rm -rf /srv/pantala`" in said
        selector = "app.kubernetes.io/instance=pantala,app.kubernetes.io/component=supernode"
        assert f"`kubectl delete -n pantala-system pvc -l {selector}`" in said
        (sts,) = [each for each in render(*values) if each["kind"] == "StatefulSet"]
        labels = sts["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"]
        assert set(selector.split(",")) <= {f"{key}={value}" for key, value in labels.items()}
        assert keep == ("`kubectl delete crd tasks.pantala.dev imageprefetches.pantala.dev peers.pantala.dev`" in said)


def test_as_many_supernodes_as_wanted_and_one_by_default(render: Render) -> None:
    for values, replicas in (((), 1), (("supernode.replicas=3",), 3), (("supernode.replicas=0",), 0)):
        (sts,) = [each for each in render(*values) if each["kind"] == "StatefulSet"]
        assert replicas == sts["spec"]["replicas"]


def test_nothing_but_their_number_depends_on_the_number_of_supernodes(render: Render) -> None:
    """So that kubectl scale does the same as an upgrade of the release."""

    def rest(count: int) -> list[Object]:
        objects = copy.deepcopy(render(f"supernode.replicas={count}"))
        for each in objects:
            if each["kind"] == "StatefulSet":
                del each["spec"]["replicas"]
        return objects

    assert rest(1) == rest(3)


def test_supernodes_leave_beside_each_other_with_time_to_hand_over_and_keep_apart(render: Render) -> None:
    (sts,) = [each for each in render() if each["kind"] == "StatefulSet"]
    pod = sts["spec"]["template"]["spec"]
    assert ("Parallel", 630) == (sts["spec"]["podManagementPolicy"], pod["terminationGracePeriodSeconds"])
    (spread,) = pod["topologySpreadConstraints"]
    assert ("kubernetes.io/hostname", "ScheduleAnyway") == (spread["topologyKey"], spread["whenUnsatisfiable"])
    (budget,) = [each for each in render() if each["kind"] == "PodDisruptionBudget"]
    labels = sts["spec"]["selector"]["matchLabels"]
    assert (1, labels) == (budget["spec"]["maxUnavailable"], budget["spec"]["selector"]["matchLabels"])
    assert labels == spread["labelSelector"]["matchLabels"]


def test_the_operator_counts_the_supernodes_of_its_release(render: Render) -> None:
    objects = render(namespace="elsewhere", release="r")
    (sts,) = [each for each in objects if each["kind"] == "StatefulSet"]
    (container,) = workloads(objects)["operator"]["spec"]["containers"]
    assert f"--supernode-statefulset=elsewhere/{sts['metadata']['name']}" in container["args"]


def test_the_cache_and_its_rates_are_set_by_values(render: Render) -> None:
    def flags(*values: str) -> dict[str, str]:
        (container,) = workloads(render(*values))["supernode"]["spec"]["containers"]
        given = dict(each.removeprefix("--").partition("=")[::2] for each in container["args"])
        names = ("cache-seconds", "fresh-seconds", "disk-high", "disk-low", "origin-rate", "serve-rate", "bandwidth")
        return {name: given[name] for name in names if name in given}

    assert {"fresh-seconds": "60", "disk-high": "90", "disk-low": "80"} == flags()
    values = ('supernode.cache={"seconds":0}', 'supernode.rates={"origin":"1M","serve":"2M","link":"3M"}')
    expected = {"cache-seconds": "0", "origin-rate": "1M", "serve-rate": "2M", "bandwidth": "3M"}
    assert expected.items() <= flags(*values).items()


@pytest.mark.parametrize(
    ("container", "program"),
    [
        ("operator/operator", ("pantala_operator",)),
        ("supernode/supernode", ("pantala_supernode",)),
        ("peer/peer", ("pantala_peer",)),
        ("peer/mirror", ("pantala_peer", "configure")),
        ("peer/runtime", ("pantala_runtime",)),
        ("uninstall/uninstall", ("pantala_operator.cleanup.uninstall",)),
    ],
)
def test_each_process_knows_the_flags_that_the_chart_gives(
    render: Render, container: str, program: tuple[str, ...]
) -> None:
    known = subprocess.run(
        [sys.executable, "-m", *program, "--help"], capture_output=True, text=True, check=True
    ).stdout
    found = {name: each for name, each, _ in containers(render(*VARIANTS["everything set"]))}[container]
    words = [*found.get("command", ()), *found.get("args", ())]
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert flags
    assert set() == {flag for flag in flags if f"{flag} " not in known}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), f"pantala/peer:{__version__}"),
        (('image.registry="r:5000"',), f"r:5000/pantala/peer:{__version__}"),
        (('image={"registry":"r","tag":"2"}', 'peer.image.registry="s"'), "s/pantala/peer:2"),
        (('image.tag="2"', 'peer.image.tag="3"', 'peer.image.repository="p"'), "p:3"),
        ((f'peer.image={{"tag":"3","digest":"sha256:{"a" * 64}"}}',), f"pantala/peer@sha256:{'a' * 64}"),
    ],
)
def test_image_references(render: Render, values: tuple[str, ...], expected: str) -> None:
    pod = workloads(render(*values))["peer"]["spec"]
    images = {each["name"]: each["image"] for each in pod["containers"] + pod["initContainers"]}
    helper = images.pop("runtime")
    assert {expected} == set(images.values())
    assert "pantala/runtime:" in helper


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
