"""The chart's pods have only the privileges that they need, and values restrict what they may do."""

import pytest

from tests.chart.rendered import CHART, Helm, Object, Render

AS_ROOT = {"peer/directories", "peer/mirror", "peer/mirror-watch", "cleanup/cleanup"}
"""Init containers that write files of root. The watch is one that keeps running."""


@pytest.mark.parametrize("values", [(), ("mirror.enabled=false",)])
def test_only_init_containers_that_write_on_the_node_run_as_root(render: Render, values: tuple[str, ...]) -> None:
    seen = set()
    for name, container, pod in render(*values).containers():
        seen.add(name)
        context = {**pod["securityContext"], **container["securityContext"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        root = name in AS_ROOT
        assert not root or container in pod["initContainers"]
        added = ["CHOWN", "FOWNER", "DAC_OVERRIDE"] if root else []
        assert added == context["capabilities"].get("add", [])
        assert context["capabilities"]["drop"] == ["ALL"]
        assert (not root, 0 if root else 65532) == (context["runAsNonRoot"], context["runAsUser"])
        assert (0 if root or name == "peer/runtime" else 65532) == context["runAsGroup"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert seen >= AS_ROOT - ({"cleanup/cleanup", "peer/mirror-watch"} if values else set())


def mounts(template: Object, *, of_node: bool) -> dict[str, set[tuple[str, bool]]]:
    """Mount paths and whether they are writable, by container. Paths of the node keep their names."""
    paths = {each["name"]: each.get("hostPath", {}).get("path") for each in template["spec"]["volumes"]}
    found: dict[str, set[tuple[str, bool]]] = {}
    for each in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
        for mount in each.get("volumeMounts", []):
            path = paths.get(mount["name"])  # also None for a volume claim template
            if of_node == (path is not None):
                assert path in (None, mount["mountPath"])
                found.setdefault(each["name"], set()).add((mount["mountPath"], not mount.get("readOnly")))
    return found


def test_each_container_mounts_only_its_own_paths_of_the_node(render: Render) -> None:
    pods = render('peer.root="/srv/pantala"').pods
    root, folder = ("/srv/pantala", True), ("/etc/containerd", True)
    expected = {
        "directories": {root},
        "mirror": {root, folder},
        "mirror-watch": {root, folder},
        "peer": {root},
        "runtime": {("/run/containerd", False), ("/var/lib/containerd/io.containerd.content.v1.content", False)},
    }
    assert expected == mounts(pods["peer"], of_node=True)
    assert {"cleanup": {root, folder}} == mounts(pods["cleanup"], of_node=True)
    for component in ("operator", "supernode", "uninstall"):
        assert {} == mounts(pods[component], of_node=True)
    tls = {("/var/run/pantala-tls", True), ("/var/run/pantala-ca", False)}
    own = {
        "peer": {("/var/run/secrets/pantala", False), ("/run/pantala", True)} | tls,
        "runtime": {("/run/pantala", True)},
    }
    assert own == mounts(pods["peer"], of_node=False)


def test_without_prefetching_the_runtimes_socket_is_not_mounted(render: Render) -> None:
    peer = render("prefetch.enabled=false").pods["peer"]
    assert ["peer"] == [each["name"] for each in peer["spec"]["containers"]]
    assert "--runtime-socket=none" in peer["spec"]["containers"][0]["args"]
    paths = {each["hostPath"]["path"] for each in peer["spec"]["volumes"] if "hostPath" in each}
    assert {"/var/lib/pantala", "/etc/containerd"} == paths


def test_both_sides_agree_on_the_sockets_of_helper_and_runtime(render: Render) -> None:
    values = 'containerd={"socket":"/run/k3s/containerd/containerd.sock","content":"/var/lib/k3s/content"}'
    peer, helper = render(values).pods["peer"]["spec"]["containers"]
    (socket,) = {each.partition("=")[2] for each in peer["args"] if each.startswith("--runtime-socket=")}
    assert f"--listen={socket}" in helper["args"]
    assert {"--runtime=unix:///run/k3s/containerd/containerd.sock", "--content=/var/lib/k3s/content"} < set(
        helper["args"]
    )
    assert ("/run/k3s/containerd", "/var/lib/k3s/content") == tuple(
        each["mountPath"] for each in helper["volumeMounts"] if each["name"] in ("socket", "content")
    )


def test_only_clients_of_the_api_server_have_its_token(render: Render) -> None:
    tokens = {name: each["spec"]["automountServiceAccountToken"] for name, each in render().pods.items()}
    without = {"peer", "cleanup"}
    assert {name: name not in without for name in ("operator", "supernode", "uninstall", "growth", *without)} == tokens
    assert render("mirror.enabled=false").pods["uninstall"]["spec"]["automountServiceAccountToken"] is False


def test_pantalas_own_tokens_are_short_lived_and_valid_only_for_pantala(render: Render) -> None:
    for component in ("operator", "peer", "supernode"):
        volumes = {each["name"]: each for each in render().pods[component]["spec"]["volumes"]}
        (source,) = volumes["token"]["projected"]["sources"]
        expected = {"audience": "pantala", "expirationSeconds": 600, "path": "token"}
        assert expected == source["serviceAccountToken"]


def test_the_supernodes_token_for_google_has_its_own_audience(render: Render) -> None:
    objects = render('supernode.googleIdentity={"configMap":"pantala-google","audience":"https://iam.example/pool"}')
    pod = objects.pods["supernode"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "google"]
    token, configuration = volume["projected"]["sources"]
    assert {"audience": "https://iam.example/pool", "expirationSeconds": 3600, "path": "token"} == token[
        "serviceAccountToken"
    ]
    (item,) = configuration["configMap"]["items"]
    assert ("pantala-google", "credentials.json") == (configuration["configMap"]["name"], item["key"])
    container = objects.container("supernode/supernode")
    (mounted,) = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "google"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert f"{mounted}/{item['path']}" == variables["GOOGLE_APPLICATION_CREDENTIALS"]
    assert "google" not in {each["name"] for each in render().pods["supernode"]["spec"]["volumes"]}


def test_the_token_for_google_needs_an_audience(helm: Helm) -> None:
    result = helm("template", "x", str(CHART), "--set", "supernode.googleIdentity.configMap=c")
    assert result.returncode != 0
    assert "audience" in result.stderr


def test_values_mark_the_supernode_for_the_webhooks_of_clouds(render: Render) -> None:
    objects = render(
        'supernode.serviceAccount.annotations={"eks.amazonaws.com/role-arn":"r"}',
        'supernode.podLabels={"azure.workload.identity/use":"true"}',
    )
    assert "true" == objects.pods["supernode"]["metadata"]["labels"]["azure.workload.identity/use"]
    accounts = objects.of_kind("ServiceAccount")
    assert {"eks.amazonaws.com/role-arn": "r"} == accounts["pantala-supernode"]["metadata"]["annotations"]


def test_h6_only_root_and_one_group_read_published_files(render: Render) -> None:
    objects = render("peer.filesGroup=1000650000")
    assert [1000650000] == objects.pods["peer"]["spec"]["securityContext"]["supplementalGroups"]
    flags = objects.flags("peer/peer")
    assert ("group", "1000650000") == (flags["files-access"], flags["files-group"])


def test_h6_a_value_allows_a_namespace_further_paths(render: Render) -> None:
    assert "shared-paths" not in render().flags("operator/operator")
    objects = render('paths.shared=[{"namespace":"ml","prefix":"models"},{"namespace":"b","prefix":"x/y"}]')
    assert "ml=models,b=x/y" == objects.flags("operator/operator")["shared-paths"]


def test_m1_values_set_the_quotas_of_both_processes(render: Render) -> None:
    names = ("operator/operator", "supernode/supernode")
    assert not [name for name in names if "quotas" in render().flags(name)]
    values = (
        'quotas.default={"bytes":"10Gi","tasks":100}',
        'quotas.namespaces={"ml":{"bytesPerDay":"1Ti","tasks":"none"}}',
    )
    expected = "*=bytes:10Gi;tasks:100,ml=daily:1Ti;tasks:none"
    assert [expected, expected] == [render(*values).flags(name)["quotas"] for name in names]


def test_m1_values_set_the_headroom_of_volumes_and_nodes(render: Render) -> None:
    def headroom(*values: str) -> list[str]:
        return [render(*values).flags(name)["disk-headroom"] for name in ("supernode/supernode", "peer/peer")]

    assert ["5", "10"] == headroom()
    assert ["0", "20"] == headroom("supernode.cache.diskHeadroom=0", "peer.diskHeadroom=20")


def test_h9_all_connections_between_pods_use_tls_by_default(render: Render) -> None:
    objects = render()
    assert objects.flags("peer/peer")["supernode"].startswith("https://")
    for name in ("supernode/supernode", "peer/peer"):
        assert "https://pantala-operator.pantala-system.svc:8443" == objects.flags(name)["tls-authority"]
    assert [] == [each.get("data") for each in objects.of_kind("Secret").values() if each.get("data")]


def test_dragonflys_clients_need_plain_http(helm: Helm) -> None:
    result = helm("template", str(CHART), "--set", "supernode.dragonfly.enabled=true")
    assert (1, True) == (result.returncode, "tls.enabled: false" in result.stderr)


def test_cert_manager_gives_the_authority(render: Render) -> None:
    objects = render('tls.certManager.issuerRef={"name":"corp","kind":"ClusterIssuer"}')
    spec = objects.one("Certificate")["spec"]
    expected = {"group": "cert-manager.io", "name": "corp", "kind": "ClusterIssuer"}
    assert (expected, True) == (spec["issuerRef"], spec["isCA"])
    assert spec["secretName"] == objects.flags("operator/operator")["tls-issuer-secret"]
    (rule,) = (each for each in objects.of_kind("Role")["pantala-tls"]["rules"] if each["verbs"] == ["get"])
    assert [spec["secretName"]] == rule["resourceNames"]
