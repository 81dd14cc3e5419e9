"""The mirror: what peers, supernodes and containerd are told, and that all of it is taken back."""

from collections.abc import Callable
from typing import Any

from tests.chart.pods import containers, workloads

Object = dict[str, Any]
Render = Callable[..., list[Object]]
ON_FAILURE_TOO = {"before-hook-creation", "hook-succeeded", "hook-failed"}


def container(objects: list[Object], name: str) -> Object:
    return {each: found for each, found, _ in containers(objects)}[name]


def flags(words: list[str]) -> dict[str, str]:
    return dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--"))


def hooks(objects: list[Object]) -> dict[str, Object]:
    """Objects by kind that Helm makes when all others are gone."""
    found = [each for each in objects if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    assert {"post-delete"} >= {each["metadata"]["annotations"]["helm.sh/hook"] for each in found}
    return {each["kind"]: each for each in found}


def test_containerd_is_told_of_the_port_that_the_node_has_for_itself_alone(render: Render) -> None:
    objects = render('peer.root="/srv/p"', 'mirror.registries=["http://r:5000","docker.io"]')
    peer = container(objects, "peer/peer")
    (port,) = [each for each in peer["ports"] if each["name"] == "mirror"]
    assert {"name": "mirror", "containerPort": 65001, "hostPort": 65001, "hostIP": "127.0.0.1"} == port
    given, told = flags(peer["args"]), flags(container(objects, "peer/mirror")["command"])
    assert "http://127.0.0.1:65001" == given["mirror-address"] == told["mirror"]
    assert "0.0.0.0:65001" == given["mirror-listen"]
    assert "/srv/p/mirror-token" == given["mirror-token-file"] == told["mirror-token-file"]
    pod = workloads(objects)["peer"]["spec"]["securityContext"]
    assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == told["mirror-token-owner"]
    assert ("http://r:5000,docker.io", "/srv/p/containerd") == (told["registries"], told["containerd-state"])
    assert "http://r:5000,docker.io" == flags(container(objects, "supernode/supernode")["args"])["registries"]


def test_tags_and_the_cache_are_as_the_values_say(render: Render) -> None:
    def given(*values: str) -> tuple[str, str, str | None]:
        objects = render(*values)
        peer, told = container(objects, "peer/peer")["args"], container(objects, "peer/mirror")["command"]
        return flags(peer)["mirror-resolve"], flags(told)["mirror-resolve"], flags(peer).get("blob-cache")

    assert ("no", "no", None) == given()
    assert ("yes", "yes", "20Gi") == given('mirror={"resolve":true,"cacheSize":"20Gi"}')


def test_switched_off_peers_take_back_what_they_told_containerd(render: Render) -> None:
    objects = render("mirror.enabled=false")
    peer = container(objects, "peer/peer")
    assert not [each for each in peer["args"] if each.startswith("--mirror")]
    assert "mirror" not in {each["name"] for each in peer["ports"]}
    command = container(objects, "peer/mirror")["command"]
    last = container(render(), "cleanup/cleanup")["command"]
    assert command == [each.replace(' "--root=$1"', "") for each in last]
    assert command != last, "what is cached goes at the end, not when the mirror is off"
    assert ["/etc/containerd/certs.d", "/var/lib/pantala"] == command[-2:]
    assert {"Job"} == hooks(objects).keys()
    assert {} == hooks(render("mirror.enabled=false", "uninstallNotice.enabled=false"))


def test_several_folders_of_containerd_are_seen_and_the_first_is_written(render: Render) -> None:
    objects = render('mirror.certsD="/etc/containerd/certs.d:/etc/docker/certs.d:/etc/docker/more"')
    for name in ("peer/mirror", "cleanup/cleanup"):
        mounted = {each["mountPath"]: not each.get("readOnly") for each in container(objects, name)["volumeMounts"]}
        assert {"/var/lib/pantala": True, "/etc/containerd": True, "/etc/docker": False} == mounted
    assert container(objects, "cleanup/cleanup")["command"][-2].count(":") == 2


def test_a_node_without_containerd_still_runs_a_peer(render: Render) -> None:
    """Any type but this one has the kubelet refuse the pod there, or make the folder."""
    volumes = workloads(render())["peer"]["spec"]["volumes"]
    types = {each["name"]: each["hostPath"]["type"] for each in volumes if "hostPath" in each}
    assert {"root": "DirectoryOrCreate", "certs-0": "", "socket": "", "content": ""} == types


def test_nodes_are_cleaned_up_before_the_job_ends_that_helm_waits_for(render: Render) -> None:
    objects = hooks(render('mirror.certsD="/etc/x/certs.d"'))
    assert {"ServiceAccount", "Role", "RoleBinding", "DaemonSet", "Job"} == objects.keys()
    about = {kind: each["metadata"]["annotations"] for kind, each in objects.items()}
    weights = {kind: int(each["helm.sh/hook-weight"]) for kind, each in about.items()}
    assert {"ServiceAccount": -1, "Role": -1, "RoleBinding": -1, "DaemonSet": 0, "Job": 1} == weights
    for each in about.values():
        assert ON_FAILURE_TOO == set(each["helm.sh/hook-delete-policy"].split(","))
    daemonset, job = objects["DaemonSet"], objects["Job"]
    (waits,) = job["spec"]["template"]["spec"]["containers"]
    given = flags(waits["command"])
    assert f"pantala-system/{daemonset['metadata']['name']}" == given["daemonset"]
    assert "/etc/x/certs.d" == given["certs-d"]
    assert float(given["seconds"]) < job["spec"]["activeDeadlineSeconds"] - 30


def test_the_clean_up_goes_wherever_peers_go(render: Render) -> None:
    values = (
        'peer.nodeSelector={"a":"b"}',
        'peer.affinity={"nodeAffinity":{}}',
        'peer.tolerations=[{"key":"c","operator":"Exists"}]',
        'imagePullSecrets=[{"name":"registry"}]',
    )
    pods = workloads(render(*values))
    for name in ("nodeSelector", "affinity", "tolerations", "priorityClassName", "imagePullSecrets"):
        assert pods["peer"]["spec"][name] == pods["cleanup"]["spec"][name]


def test_the_notice_may_be_left_out_but_not_the_clean_up(render: Render) -> None:
    job = hooks(render("uninstallNotice.enabled=false"))["Job"]
    words = flags(job["spec"]["template"]["spec"]["containers"][0]["command"])
    assert (True, False) == ("daemonset" in words, "notice" in words)


def test_supernodes_know_registries_and_who_signed_for_them(render: Render) -> None:
    usual = flags(container(render(), "supernode/supernode")["args"])
    assert not {"registries", "registry-ca", "registries-only", "blob-seconds"} & usual.keys()
    authorities = '{"b.example":{"secretName":"one","key":"ca.crt"},"a.example:5000":{"secretName":"two","key":"x"}}'
    objects = render(f"mirror.authorities={authorities}", "mirror.onlyListed=true", "mirror.blobSeconds=0")
    supernode = container(objects, "supernode/supernode")
    given = flags(supernode["args"])
    assert ("yes", "0") == (given["registries-only"], given["blob-seconds"])
    files = dict(each.split("=") for each in given["registry-ca"].split(","))
    assert {"a.example:5000", "b.example"} == files.keys()
    mounted = {each["mountPath"]: each["name"] for each in supernode["volumeMounts"]}
    volumes = {each["name"]: each for each in workloads(objects)["supernode"]["spec"]["volumes"]}
    for host, secret, key in (("a.example:5000", "two", "x"), ("b.example", "one", "ca.crt")):
        folder, _, file = files[host].rpartition("/")
        source = volumes[mounted[folder]]["secret"]
        assert (secret, [{"key": key, "path": file}]) == (source["secretName"], source["items"])


def test_the_operator_knows_its_own_namespace(render: Render) -> None:
    environment = {each["name"]: each for each in container(render(), "operator/operator")["env"]}
    assert "metadata.namespace" == environment["POD_NAMESPACE"]["valueFrom"]["fieldRef"]["fieldPath"]
