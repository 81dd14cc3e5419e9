"""The chart's objects are valid for each supported Kubernetes, and fit together."""

import copy
import subprocess
import sys
from collections.abc import Iterator

import kubernetes_validate
import pytest

from pantala_protocol import __version__
from tests.chart.rendered import CHART, Helm, Object, Render, Rendered

VARIANTS = {
    "defaults": (),
    "everything off": ("crds.enabled=false", "rbac.aggregate=false", "networkPolicy.enabled=false",
        "uninstallNotice.enabled=false", "supernode.persistence.enabled=false", "mirror.enabled=false",
        "prefetch.enabled=false"),
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
        "tls.enabled=false",
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
        'proxy={"url":"http://proxy.corp:3128","credentialsSecret":"proxy-login"}',
        'authorities={"files.corp":{"secretName":"ca","key":"ca.crt"},"*":{"configMapName":"roots","key":"ca.crt"}}',
        "peer.hostNetwork=true",
        "supernode.originConnections=4",
        'monitoring={"enabled":true,"dashboard":{"enabled":true}}',
        'commonLabels={"cost":"42"}',
        'logLevel="debug"',
        'operator={"extraVolumes":[{"name":"m","emptyDir":{}}],"extraVolumeMounts":[{"name":"m","mountPath":"/m"}]}',
        'operator.dnsConfig={"options":[{"name":"ndots","value":"2"}]}',
        'operator.topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]',
        'supernode.updateStrategy={"type":"OnDelete"}',
        "supernode.hostNetwork=true",
        'supernode.persistence.growth="Always"',
        'operator.runAs={"user":null,"group":null,"fsGroup":null}',
        'peer.seLinuxOptions={"type":"spc_t"}',
        'test={"image":"r.example/a:1","pullSecrets":["registry"]}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("version", ["1.31.0", "1.34.0", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_object_fits_the_schemas_of_kubernetes(render: Render, values: tuple[str, ...], version: str) -> None:
    objects = render(*values)
    assert {"Deployment", "StatefulSet", "DaemonSet"} <= {each["kind"] for each in objects}
    for each in objects:
        if not each["apiVersion"].startswith("pantala.dev/"):
            kubernetes_validate.validate(each, version, strict=each["kind"] != "CustomResourceDefinition")


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
def test_objects_are_labelled_and_in_the_release_namespace(render: Render, values: tuple[str, ...]) -> None:
    for each in render(*values):
        metadata = each["metadata"]
        assert {"app.kubernetes.io/name", "app.kubernetes.io/instance", "helm.sh/chart"} <= metadata["labels"].keys()
        assert metadata.get("namespace", "pantala-system") in {"pantala-system", "team-a", "team-b"}


def test_lint_finds_nothing(helm: Helm) -> None:
    result = helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout


def test_all_containers_have_probes_and_limits(render: Render) -> None:
    for name, container, _ in render().containers():
        assert "memory" in container["resources"]["limits"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        if name in {"operator/operator", "supernode/supernode", "peer/peer"}:
            ports = {port["name"] for port in container["ports"]}
            paths = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
            assert paths == ["/healthz", "/healthz", "/readyz"]
            assert container["readinessProbe"]["httpGet"]["port"] in ports


def test_h8_probes_use_a_port_of_their_own(render: Render) -> None:
    for name, container, _ in render().containers():
        if name in {"operator/operator", "supernode/supernode", "peer/peer"}:
            assert {"health"} == {
                container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")
            }


def test_pods_get_no_variables_of_services(render: Render) -> None:
    assert all(template["spec"]["enableServiceLinks"] is False for template in render().pods.values())


def test_m4_one_of_two_operators_leads_by_the_lease_of_the_chart(render: Render) -> None:
    objects = render()
    assert 2 == objects.one("Deployment")["spec"]["replicas"]
    assert "pantala-system/pantala-operator" == objects.flags("operator/operator")["lease"]
    lease = objects.one("Lease")["metadata"]
    assert ("pantala-system", "pantala-operator") == (lease["namespace"], lease["name"])
    assert "spec" not in objects.one("Lease"), "an upgrade would change the holder"
    assert {"helm.sh/resource-policy": "keep"} == lease["annotations"], "a stopping operator would create it again"
    assert 1 == objects.of_kind("PodDisruptionBudget")["pantala-operator"]["spec"]["maxUnavailable"]
    assert 1 == render("operator.replicas=1").one("Deployment")["spec"]["replicas"]


def test_peers_run_on_every_node(render: Render) -> None:
    assert render().pods["peer"]["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_the_supernode_trusts_the_accounts_of_the_three_components(render: Render) -> None:
    values = (
        'supernode.serviceAccount.name="super"',
        'operator.serviceAccount.name="boss"',
        'peer.serviceAccount={"create":false,"name":"node"}',
    )
    pods = render(*values, namespace="elsewhere").pods
    accounts = [pods[name]["spec"]["serviceAccountName"] for name in ("operator", "peer", "supernode")]
    assert accounts == ["boss", "node", "super"]
    for flag, account in (("operator", "boss"), ("peer", "node"), ("supernode", "super")):
        trusted = f"--trusted-{flag}=system:serviceaccount:elsewhere:{account}"
        assert trusted in pods["supernode"]["spec"]["containers"][0]["args"]


def test_selectors_separate_components_and_releases(render: Render) -> None:
    objects = render()
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet", "DaemonSet"}:
            selector = each["spec"]["selector"]["matchLabels"]
            assert selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
            keys = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
            assert keys == selector.keys()


def test_network_policies_admit_only_the_components_that_connect(render: Render) -> None:
    policies = render().of_kind("NetworkPolicy")
    component = "app.kubernetes.io/component"
    allowed = {
        (name, port["port"], peer["podSelector"]["matchLabels"][component])
        for name, policy in policies.items()
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
        for peer in rule["from"]
    }
    expected = {
        ("pantala-supernode", "api", "operator"),
        ("pantala-supernode", "api", "peer"),
        ("pantala-supernode", "api", "supernode"),
        ("pantala-supernode", "pieces", "peer"),
        ("pantala-peer", "pieces", "peer"),
        ("pantala-peer", "health", "operator"),
        ("pantala-operator", "certificates", "peer"),
        ("pantala-operator", "certificates", "supernode"),
    }
    assert expected == allowed
    assert {"pantala-operator", "pantala-supernode", "pantala-peer"} == policies.keys()


def test_network_policies_admit_dragonflys_clients_only_if_they_are_enabled(render: Render) -> None:
    objects = render("supernode.dragonfly.enabled=true", "tls.enabled=false")
    open_to_all = {
        (name, port["port"])
        for name, policy in objects.of_kind("NetworkPolicy").items()
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
        if "from" not in rule
    }
    assert {("pantala-supernode", "api"), ("pantala-supernode", "pieces"), ("pantala-peer", "pieces")} == open_to_all
    assert (True, False) == tuple("dragonfly" in each.flags("supernode/supernode") for each in (objects, render()))


def test_a_service_keeps_each_of_dragonflys_clients_on_one_supernode(render: Render) -> None:
    assert {"pantala-supernode", "pantala-operator", "pantala-test"} == render().of_kind("Service").keys()
    services = render("supernode.dragonfly.enabled=true", "tls.enabled=false").of_kind("Service")
    service = services["pantala-supernode-dragonfly"]["spec"]
    assert "ClientIP" == service["sessionAffinity"]
    assert {8001, 8002} == {port["port"] for port in service["ports"]}
    assert "clusterIP" not in service


def test_values_decide_if_the_volume_is_deleted_with_the_release(render: Render) -> None:
    for choice in ("Delete", "Retain"):
        sts = render(f'supernode.persistence.whenDeleted="{choice}"').one("StatefulSet")
        assert choice == sts["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"]


def test_a_hook_names_what_an_uninstall_keeps(render: Render) -> None:
    values = ('peer.root="/srv/pantala"', 'supernode.persistence.whenDeleted="Retain"')
    for keep in (True, False):
        job = render(*values, f"crds.keep={str(keep).lower()}").of_kind("Job")["pantala-uninstall"]
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-delete"
        assert job["metadata"]["annotations"]["helm.sh/hook-output-log-policy"] == "hook-succeeded"
        (container,) = job["spec"]["template"]["spec"]["containers"]
        arguments = [each for each in container["command"][1:] if not each.startswith("--daemonset=")]
        output = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout
        assert len(output.splitlines()) == 1
        assert "`rm -rf /srv/pantala`" in output
        selector = "app.kubernetes.io/instance=pantala,app.kubernetes.io/component=supernode"
        assert f"`kubectl delete -n pantala-system pvc -l {selector}`" in output
        sts = render(*values).one("StatefulSet")
        labels = sts["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"]
        assert set(selector.split(",")) <= {f"{key}={value}" for key, value in labels.items()}
        assert keep == (
            "`kubectl delete crd tasks.pantala.dev imageprefetches.pantala.dev peers.pantala.dev "
            "sourcepolicies.pantala.dev`" in output
        )


def test_values_set_the_number_of_supernodes(render: Render) -> None:
    for values, replicas in (((), 1), (("supernode.replicas=3",), 3), (("supernode.replicas=0",), 0)):
        sts = render(*values).one("StatefulSet")
        assert replicas == sts["spec"]["replicas"]


def test_the_number_of_supernodes_changes_no_other_object(render: Render) -> None:
    """So kubectl scale does the same as an upgrade of the release."""

    def rest(count: int) -> Rendered:
        objects = copy.deepcopy(render(f"supernode.replicas={count}"))
        del objects.one("StatefulSet")["spec"]["replicas"]
        return objects

    assert rest(1) == rest(3)


def test_supernodes_stop_in_parallel_with_time_to_hand_over_and_run_on_different_nodes(render: Render) -> None:
    sts = render().one("StatefulSet")
    pod = sts["spec"]["template"]["spec"]
    assert ("Parallel", 630) == (sts["spec"]["podManagementPolicy"], pod["terminationGracePeriodSeconds"])
    (spread,) = pod["topologySpreadConstraints"]
    assert ("kubernetes.io/hostname", "ScheduleAnyway") == (spread["topologyKey"], spread["whenUnsatisfiable"])
    name = sts["metadata"]["name"]
    budget = render().of_kind("PodDisruptionBudget")[name]
    labels = sts["spec"]["selector"]["matchLabels"]
    assert (1, labels) == (budget["spec"]["maxUnavailable"], budget["spec"]["selector"]["matchLabels"])
    assert labels == spread["labelSelector"]["matchLabels"]


def test_the_operator_counts_the_supernodes_of_its_release(render: Render) -> None:
    objects = render(namespace="elsewhere", release="r")
    name = objects.one("StatefulSet")["metadata"]["name"]
    assert f"elsewhere/{name}" == objects.flags("operator/operator")["supernode-statefulset"]


def test_values_set_the_cache_and_its_rates(render: Render) -> None:
    def flags(*values: str) -> dict[str, str]:
        given = render(*values).flags("supernode/supernode")
        names = ("cache-seconds", "fresh-seconds", "disk-high", "disk-low", "origin-rate", "serve-rate", "bandwidth")
        return {name: given[name] for name in names if name in given}

    assert {"fresh-seconds": "60", "disk-high": "90", "disk-low": "80"} == flags()
    values = ('supernode.cache={"seconds":0}', 'supernode.rates={"origin":"1M","serve":"2M","link":"3M"}')
    expected = {"cache-seconds": "0", "origin-rate": "1M", "serve-rate": "2M", "bandwidth": "3M"}
    assert expected.items() <= flags(*values).items()


def test_h7_values_set_the_shares_of_namespaces(render: Render) -> None:
    assert "shares" not in render().flags("supernode/supernode")
    given = render('supernode.shares={"team-a":3,"@images":5}').flags("supernode/supernode")
    assert "@images=5,team-a=3" == given["shares"]


@pytest.mark.parametrize(
    ("container", "program"),
    [
        ("operator/operator", ("pantala_operator",)),
        ("supernode/supernode", ("pantala_supernode",)),
        ("peer/peer", ("pantala_peer",)),
        ("peer/mirror", ("pantala_peer", "configure")),
        ("peer/runtime", ("pantala_runtime",)),
        ("uninstall/uninstall", ("pantala_operator.hooks.uninstall",)),
        ("growth/growth", ("pantala_operator.hooks.growth",)),
    ],
)
def test_each_process_knows_the_flags_of_the_chart(render: Render, container: str, program: tuple[str, ...]) -> None:
    known = subprocess.run(
        [sys.executable, "-m", *program, "--help"], capture_output=True, text=True, check=True
    ).stdout
    flags = render(*VARIANTS["everything set"]).flags(container)
    assert flags
    assert set() == {flag for flag in flags if f"--{flag} " not in known}


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
    pod = render(*values).pods["peer"]["spec"]
    images = {each["name"]: each["image"] for each in pod["containers"] + pod["initContainers"]}
    helper = images.pop("runtime")
    assert {expected} == set(images.values())
    assert "pantala/runtime:" in helper


@pytest.mark.parametrize("release", ["a", "pantala", "x" * 53, "with.dots", "y" * 40 + "-" + "z" * 12])
def test_names_are_valid_for_each_name_of_the_release(render: Render, release: str) -> None:
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
    yield from each["metadata"]["labels"].values()
    yield from each.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {}).values()
