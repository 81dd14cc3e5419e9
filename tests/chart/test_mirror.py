"""The mirror's settings for peers, supernodes and containerd, and their removal."""

import pytest

from pantala_supernode.settings import parse
from tests.chart.rendered import CHART, Helm, Object, Render, Rendered

ON_FAILURE_TOO = {"before-hook-creation", "hook-succeeded", "hook-failed"}


def hooks(objects: Rendered) -> dict[str, Object]:
    """The objects that Helm creates after it deleted all others, by kind."""
    found = [each for each in objects if each["metadata"].get("annotations", {}).get("helm.sh/hook") == "post-delete"]
    return {each["kind"]: each for each in found}


def test_containerd_uses_a_port_that_only_its_own_node_reaches(render: Render) -> None:
    objects = render('peer.root="/srv/p"', 'mirror.registries=["http://r:5000","docker.io"]')
    peer = objects.container("peer/peer")
    (port,) = [each for each in peer["ports"] if each["name"] == "mirror"]
    assert {"name": "mirror", "containerPort": 65001, "hostPort": 65001, "hostIP": "127.0.0.1"} == port
    given, told = objects.flags("peer/peer"), objects.flags("peer/mirror")
    assert "http://127.0.0.1:65001" == given["mirror-address"] == told["mirror"]
    assert "[::]:65001" == given["mirror-listen"]
    assert "/srv/p/mirror-token" == given["mirror-token-file"] == told["mirror-token-file"]
    pod = objects.pods["peer"]["spec"]["securityContext"]
    assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == told["mirror-token-owner"]
    assert ("http://r:5000,docker.io", "/srv/p/containerd") == (told["registries"], told["containerd-state"])
    assert "http://r:5000,docker.io" == objects.flags("supernode/supernode")["registries"]


def test_the_watch_restores_exactly_what_the_init_container_configured(render: Render) -> None:
    objects = render('peer.root="/srv/p"', 'mirror.registries=["docker.io"]', "mirror.resolve=true")
    watch = objects.container("peer/mirror-watch")
    assert (["pantala-peer", "watch"], "Always") == (watch["command"][:2], watch["restartPolicy"])
    assert objects.flags("peer/mirror") == objects.flags("peer/mirror-watch")
    for off in ("mirror.enabled=false", "mirror.watch=false"):
        assert "peer/mirror-watch" not in {name for name, *_ in render(off).containers()}


def test_values_set_tag_resolution_and_cache_size(render: Render) -> None:
    def given(*values: str) -> tuple[str, str, str | None]:
        objects = render(*values)
        peer, told = objects.flags("peer/peer"), objects.flags("peer/mirror")
        return peer["mirror-resolve"], told["mirror-resolve"], peer.get("blob-cache")

    assert ("no", "no", None) == given()
    assert ("yes", "yes", "20Gi") == given('mirror={"resolve":true,"cacheSize":"20Gi"}')


def test_without_the_mirror_peers_remove_their_settings_from_containerd(render: Render) -> None:
    objects = render("mirror.enabled=false")
    peer = objects.container("peer/peer")
    assert not [each for each in peer["args"] if each.startswith("--mirror")]
    assert "mirror" not in {each["name"] for each in peer["ports"]}
    command = objects.container("peer/mirror")["command"]
    last = render().container("cleanup/cleanup")["command"]
    paths = ["--certs-d=/etc/containerd/certs.d", "--containerd-state=/var/lib/pantala/containerd"]
    assert ["pantala-peer", "cleanup", *paths] == command
    assert [*command, "--root=/var/lib/pantala"] == last, "the cache is removed by the uninstallation only"
    assert {"Job"} == hooks(objects).keys()
    assert {} == hooks(render("mirror.enabled=false", "uninstallNotice.enabled=false"))


def test_of_several_folders_of_containerd_only_the_first_is_writable(render: Render) -> None:
    objects = render('mirror.certsD="/etc/containerd/certs.d:/etc/docker/certs.d:/etc/docker/more"')
    for name in ("peer/mirror", "peer/mirror-watch", "cleanup/cleanup"):
        mounted = {each["mountPath"]: not each.get("readOnly") for each in objects.container(name)["volumeMounts"]}
        assert {"/var/lib/pantala": True, "/etc/containerd": True, "/etc/docker": False} == mounted
    assert objects.container("cleanup/cleanup")["command"][2].count(":") == 2


def test_a_node_without_containerd_still_runs_a_peer(render: Render) -> None:
    """With any other type the kubelet rejects the pod or creates the folder."""
    volumes = render().pods["peer"]["spec"]["volumes"]
    types = {each["name"]: each["hostPath"]["type"] for each in volumes if "hostPath" in each}
    assert {"root": "DirectoryOrCreate", "certs-0": "", "socket": "", "content": ""} == types


def test_helm_waits_for_a_job_that_waits_for_the_clean_up_of_the_nodes(render: Render) -> None:
    rendered = render('mirror.certsD="/etc/x/certs.d"')
    objects = hooks(rendered)
    assert {"ServiceAccount", "Role", "RoleBinding", "DaemonSet", "Job"} == objects.keys()
    about = {kind: each["metadata"]["annotations"] for kind, each in objects.items()}
    weights = {kind: int(each["helm.sh/hook-weight"]) for kind, each in about.items()}
    assert {"ServiceAccount": -1, "Role": -1, "RoleBinding": -1, "DaemonSet": 0, "Job": 1} == weights
    for each in about.values():
        assert ON_FAILURE_TOO == set(each["helm.sh/hook-delete-policy"].split(","))
    daemonset, job = objects["DaemonSet"], objects["Job"]
    given = rendered.flags("uninstall/uninstall")
    assert f"pantala-system/{daemonset['metadata']['name']}" == given["daemonset"]
    assert "/etc/x/certs.d" == given["certs-d"]
    assert float(given["seconds"]) < job["spec"]["activeDeadlineSeconds"] - 30


def test_the_clean_up_runs_on_the_same_nodes_as_the_peers(render: Render) -> None:
    values = (
        'peer.nodeSelector={"a":"b"}',
        'peer.affinity={"nodeAffinity":{}}',
        'peer.tolerations=[{"key":"c","operator":"Exists"}]',
        'imagePullSecrets=[{"name":"registry"}]',
    )
    pods = render(*values).pods
    for name in ("nodeSelector", "affinity", "tolerations", "priorityClassName", "imagePullSecrets"):
        assert pods["peer"]["spec"][name] == pods["cleanup"]["spec"][name]


def test_values_may_disable_the_notice_but_not_the_clean_up(render: Render) -> None:
    words = render("uninstallNotice.enabled=false").flags("uninstall/uninstall")
    assert (True, False) == ("daemonset" in words, "notice" in words)


def test_supernodes_receive_registries_and_their_authorities(render: Render) -> None:
    usual = render().flags("supernode/supernode")
    assert not {"registries", "registry-ca", "registries-only", "blob-seconds"} & usual.keys()
    authorities = '{"b.example":{"secretName":"one","key":"ca.crt"},"a.example:5000":{"secretName":"two","key":"x"}}'
    objects = render(f"mirror.authorities={authorities}", "mirror.onlyListed=true", "mirror.blobSeconds=0")
    supernode = objects.container("supernode/supernode")
    given = objects.flags("supernode/supernode")
    assert ("yes", "0") == (given["registries-only"], given["blob-seconds"])
    files = dict(each.split("=") for each in given["registry-ca"].split(","))
    assert {"a.example:5000", "b.example"} == files.keys()
    mounted = {each["mountPath"]: each["name"] for each in supernode["volumeMounts"]}
    volumes = {each["name"]: each for each in objects.pods["supernode"]["spec"]["volumes"]}
    for host, secret, key in (("a.example:5000", "two", "x"), ("b.example", "one", "ca.crt")):
        folder, _, file = files[host].rpartition("/")
        source = volumes[mounted[folder]]["secret"]
        assert (secret, [{"key": key, "path": file}]) == (source["secretName"], source["items"])


def test_the_operator_knows_its_own_namespace(render: Render) -> None:
    environment = {each["name"]: each for each in render().container("operator/operator")["env"]}
    assert "metadata.namespace" == environment["POD_NAMESPACE"]["valueFrom"]["fieldRef"]["fieldPath"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ('{"docker.io": {"endpoint": "https://harbor.corp/v2/dockerhub"}}', "docker.io=https://harbor.corp/v2/dockerhub"),
        ('{"a.b": {"endpoints": ["https://one/v2/x", "http://two:5000"]}}', "a.b=https://one/v2/x,a.b=http://two:5000"),
        ('{"localhost:5001": {"endpoint": "http://registry.kind:5000"}}', "localhost:5001=http://registry.kind:5000"),
        ('{"b": {"endpoint": "https://x"}, "a": {"endpoint": "https://y"}}', "a=https://y,b=https://x"),
        ('{"[fd00::1]:5000": {"endpoint": "https://[fd00::2]/v2/x"}}', "[fd00::1]:5000=https://[fd00::2]/v2/x"),
        ("{}", None),
    ],
)  # fmt: skip
def test_the_supernode_gets_the_endpoints_of_registries(render: Render, values: str, expected: str | None) -> None:
    objects = render(f"registries={values}")
    given = objects.flags("supernode/supernode").get("registries")
    assert expected == given
    parse(["--data", "/d", *([f"--registries={given}"] if given else [])], {})  # raises if it is not valid
    with_names = render('mirror.registries=["http://r:5000"]', f"registries={values}")
    assert "http://r:5000" == with_names.flags("peer/mirror")["registries"]
    assert (
        ",".join(["http://r:5000", *filter(None, [expected])]) == with_names.flags("supernode/supernode")["registries"]
    )


@pytest.mark.parametrize(
    "values",
    [
        '{"docker.io": {}}',
        '{"docker.io": "https://harbor.corp"}',
        '{"docker.io": {"endpoint": "harbor.corp"}}',
        '{"docker.io": {"endpoint": "https://u:p@harbor.corp"}}',
        '{"docker.io": {"endpoint": "https://harbor.corp/v2/x?y"}}',
        '{"docker.io": {"endpoint": "https://harbor.corp/v2/../x"}}',
        '{"docker.io": {"endpoint": "https://a,b.c=https://d"}}',
        '{"docker.io": {"endpoints": []}}',
        '{"docker.io": {"endpoint": "https://a", "endpoints": ["https://b"]}}',
        '{"https://docker.io": {"endpoint": "https://a"}}',
        '["docker.io"]',
    ],
)
def test_an_invalid_endpoint_is_refused(helm: Helm, values: str) -> None:
    result = helm("template", "x", str(CHART), "--set-json", f"registries={values}")
    assert 0 != result.returncode
    assert "registries" in result.stderr
