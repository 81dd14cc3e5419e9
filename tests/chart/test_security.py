"""The chart's pods have only the privileges that they need, its roles only the rights, and its values are checked."""

from typing import Any

import pytest
import yaml

from charts import generate
from tests.chart.rendered import CHART, Helm, Object, Render, Rendered

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


WRONG = [
    ("replicas=2", "replicas"),
    ("operator.replicas=-1", "operator/replicas"),
    ('operator.image.registery="r"', "registery"),
    ('image.pullPolicy="Sometimes"', "image/pullPolicy"),
    ('image.registry="https://r/"', "image/registry"),
    ('image.tag="a:b"', "image/tag"),
    ("image.tag=1", "image/tag"),
    ('peer.image.digest="sha256:abc"', "peer/image/digest"),
    ('imagePullSecrets=["a"]', "imagePullSecrets/0"),
    ('crds.enabled="no"', "crds/enabled"),
    ('operator.secretNamespaces="all"', "operator/secretNamespaces"),
    ('operator.secretNamespaces=[""]', "operator/secretNamespaces/0"),
    ("supernode.replicas=-1", "supernode/replicas"),
    ('supernode.replicas="2"', "supernode/replicas"),
    ("supernode.cache.seconds=-1", "supernode/cache/seconds"),
    ("supernode.cache.diskHigh=101", "supernode/cache/diskHigh"),
    ('supernode.rates.origin="fast"', "supernode/rates/origin"),
    ('supernode.shares={"team-a":0}', "supernode/shares/team-a"),
    ('supernode.persistence.size="big"', "supernode/persistence/size"),
    ('supernode.persistence.whenDeleted="Keep"', "supernode/persistence/whenDeleted"),
    ('supernode.persistence.accessModes=["ReadOnlyMany"]', "supernode/persistence/accessModes/0"),
    ('peer.root="/"', "peer/root"),
    ('peer.root="var/lib"', "peer/root"),
    ('peer.root="/var/../etc"', "peer/root"),
    ('peer.root="/var/lib/$(x)"', "peer/root"),
    ("peer.maxUnavailable=0", "peer/maxUnavailable"),
    ('peer.maxUnavailable="half"', "peer/maxUnavailable"),
    ('peer.resources.limit={"memory":"1Gi"}', "limit"),
    ('mirror.registries=["ftp://r"]', "mirror/registries/0"),
    ('mirror.registries=["r/team"]', "mirror/registries/0"),
    ('mirror.registries=["r,s"]', "mirror/registries/0"),
    ('mirror.certsD="certs.d"', "mirror/certsD"),
    ('mirror.certsD="/certs.d"', "mirror/certsD"),
    ('mirror.certsD="/etc/a:b"', "mirror/certsD"),
    ('mirror.cacheSize="10G"', "mirror/cacheSize"),
    ('mirror.authorities={"r":{"secretName":"s"}}', "mirror/authorities/r"),
    ('mirror.authorities={"r=s":{"secretName":"s","key":"k"}}', "mirror/authorities"),
    ('mirror.blobSeconds="long"', "mirror/blobSeconds"),
    ('containerd.socket="unix:///run/containerd.sock"', "containerd/socket"),
    ('containerd.socket="/containerd.sock"', "containerd/socket"),
    ('containerd.content="/"', "containerd/content"),
    ('prefetch.enabled="yes"', "prefetch/enabled"),
    ("prefetch.startupTaints=true", "prefetch/startupTaints"),
    ('prefetch.startupTaints=["*"]', "prefetch/startupTaints/0"),
    ('prefetch.startupTaints=["/"]', "prefetch/startupTaints/0"),
    ('sources.allowed=["10.0.0.0/8,a"]', "sources/allowed/0"),
    ('sources.denied=["corp"]', "sources/denied/0"),
    ('peer.extraArgs="--a"', "peer/extraArgs"),
]


@pytest.mark.parametrize(("value", "named"), WRONG)
def test_a_wrong_value_is_rejected_by_name(helm: Helm, value: str, named: str) -> None:
    result = helm("template", "pantala", str(CHART), "--set-json", value)
    assert result.returncode != 0
    assert named in result.stderr


def test_an_account_that_is_not_created_must_be_named(helm: Helm) -> None:
    result = helm("template", "pantala", str(CHART), "--set", "peer.serviceAccount.create=false")
    assert result.returncode != 0
    assert "peer.serviceAccount.name is empty" in result.stderr


def test_every_value_is_documented() -> None:
    text = (CHART / "values.yaml").read_text()
    page = generate.values_page(text)
    undocumented = [path for path in leaves("", yaml.safe_load(text)) if not covered(path, page)]
    assert undocumented == []


def leaves(path: str, value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in leaves(f"{path}.{key}".removeprefix("."), inner)]
    return [path]


def covered(path: str, page: str) -> bool:
    """True if the page has a row for the value or for a map around it."""
    parts = path.split(".")
    return any(f"| `{'.'.join(parts[:end])}` |" in page for end in range(1, len(parts) + 1))


def test_generated_files_are_up_to_date() -> None:
    """Run ``make crds`` if it fails."""
    stale = [path.name for path, text in generate.outputs().items() if not path.exists() or path.read_text() != text]
    assert stale == []


OPERATOR = {
    ("pantala.dev", "tasks"): {"get", "list", "watch", "create", "patch", "delete"},
    ("pantala.dev", "imageprefetches"): {"get", "list", "watch", "delete"},
    ("pantala.dev", "peers"): {"list", "watch", "create", "patch", "delete"},
    ("pantala.dev", "tasks/status"): {"patch"},
    ("pantala.dev", "imageprefetches/status"): {"patch"},
    ("pantala.dev", "peers/status"): {"patch"},
    ("apps", "deployments"): {"list"},
    ("apps", "statefulsets"): {"list"},
    ("apps", "daemonsets"): {"list"},
    ("", "namespaces"): {"list"},
    ("pantala.dev", "sourcepolicies"): {"get", "list", "watch"},
    ("pantala.dev", "sourcepolicies/status"): {"patch"},
    ("", "nodes"): {"list", "watch"},
    ("", "nodes/status"): {"patch"},
    ("", "events"): {"create"},
}
AUTHORITY = {("", "secrets"): {"get", "patch"}, ("", "configmaps"): {"get", "patch"}}
STATEFULSET = {("apps", "statefulsets"): {"get"}, ("coordination.k8s.io", "leases"): {"get", "create", "update"}}
UNINSTALL = {
    ("apps", "daemonsets"): {"get", "delete"},
    ("coordination.k8s.io", "leases"): {"delete"},
    ("", "pods"): {"list"},
}
GROWTH = {("apps", "statefulsets"): {"get", "delete"}, ("", "persistentvolumeclaims"): {"list", "patch"}}
TRIAL = {("pantala.dev", kind): {"create", "get", "delete"} for kind in ("tasks", "imageprefetches")}
SECRETS = {("", "secrets"): {"get"}}
VIEWED = ("tasks", "imageprefetches", "peers", "sourcepolicies")
VIEW = {("pantala.dev", kind): {"get", "list", "watch"} for kind in VIEWED}
EDIT = {
    ("pantala.dev", kind): {"create", "update", "patch", "delete", "deletecollection"}
    for kind in ("tasks", "imageprefetches")
}


def rights(role: Object) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def roles(objects: Rendered, kind: str) -> dict[tuple[str, str], dict[tuple[str, str], set[str]]]:
    found = [each for each in objects if each["kind"] == kind]
    return {(each["metadata"].get("namespace", ""), each["metadata"]["name"]): rights(each) for each in found}


def bindings(objects: Rendered) -> set[tuple[str, str, str, str]]:
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["roleRef"]["name"], subject["name"])
        for each in objects
        if each["kind"] in ("RoleBinding", "ClusterRoleBinding")
        for subject in each["subjects"]
    }


def test_t12_the_rights_of_a_default_install(render: Render) -> None:
    objects = render()
    expected = {
        ("", "pantala-operator"): OPERATOR,
        ("", "pantala-secret-reader"): SECRETS,
        ("", "pantala-view"): VIEW,
        ("", "pantala-edit"): EDIT,
        ("", "pantala-installation"): {},
    }
    assert expected == roles(objects, "ClusterRole")
    within = {
        ("pantala-system", "pantala-operator"): STATEFULSET,
        ("pantala-system", "pantala-tls"): AUTHORITY,
        ("pantala-system", "pantala-uninstall"): UNINSTALL,
        ("pantala-system", "pantala-growth"): GROWTH,
        ("pantala-system", "pantala-test"): TRIAL,
    }
    assert within == roles(objects, "Role")
    named = {
        name: [each for rule in role["rules"] for each in rule.get("resourceNames", ())]
        for name, role in objects.of_kind("Role").items()
    }
    assert {
        "pantala-operator": ["pantala-supernode", "pantala-operator"],
        "pantala-tls": ["pantala-tls"],
        "pantala-uninstall": ["pantala-cleanup", "pantala-operator"],
        "pantala-growth": ["pantala-supernode"],
        "pantala-test": ["pantala-test"],
    } == named
    bound = {
        ("RoleBinding", "pantala-system", "pantala-operator", "pantala-operator"),
        ("RoleBinding", "pantala-system", "pantala-tls", "pantala-operator"),
        *(
            ("RoleBinding", "pantala-system", name, name)
            for name in ("pantala-uninstall", "pantala-growth", "pantala-test")
        ),
        ("ClusterRoleBinding", "", "pantala-operator", "pantala-operator"),
    }
    assert bound == bindings(objects)


def test_h4_the_operator_reads_secrets_only_in_named_namespaces(render: Render) -> None:
    default = bindings(render())
    assert not [each for each in default if each[2] == "pantala-secret-reader"]
    bound = {("RoleBinding", name, "pantala-secret-reader", "pantala-operator") for name in ("a", "b")}
    assert bound == bindings(render('operator.secretNamespaces=["a","b"]')) - default
    everywhere = {("ClusterRoleBinding", "", "pantala-secret-reader", "pantala-operator")}
    assert everywhere == bindings(render('operator.secretNamespaces=["*"]')) - default


def test_h4_the_operator_knows_the_command_that_lets_it_read_secrets(render: Render) -> None:
    objects = render('fullnameOverride="cdn"', 'operator.serviceAccount.name="op"')
    flags = objects.container("operator/operator")["args"]
    assert {"--account=pantala-system:op", "--secret-role=cdn-secret-reader"} < set(flags)
    assert ("", "cdn-secret-reader") in roles(objects, "ClusterRole")


def test_m2_the_supernodes_get_the_allowed_and_denied_sources(render: Render) -> None:
    flags = render('sources={"allowed":["10.0.0.0/8","*.corp:8443"],"denied":["10.96.0.0/12"]}').container(
        "supernode/supernode"
    )["args"]
    assert {"--allow-source=10.0.0.0/8,*.corp:8443", "--deny-source=10.96.0.0/12"} < set(flags)
    assert not [flag for flag in render().container("supernode/supernode")["args"] if "-source" in flag]


def test_the_users_rights_join_the_default_roles(render: Render) -> None:
    prefix = "rbac.authorization.k8s.io/"
    aggregated = {
        name: {key.rpartition("-")[2] for key in role["metadata"]["labels"] if key.startswith(prefix)}
        for name, role in render().of_kind("ClusterRole").items()
    }
    expected = {"pantala-view": {"view", "edit", "admin"}, "pantala-edit": {"edit", "admin"}}
    assert expected == {name: to for name, to in aggregated.items() if to}
    assert not [each for each in render("rbac.aggregate=false") if each["metadata"]["name"] in expected]


NODE_RIGHTS = [
    ((), {"list", "watch"}, {"patch"}, {"--node-condition=yes"}),
    (("prefetch.nodeCondition=false",), {"list", "watch"}, set(), set()),
    (("admissionPolicies.enabled=false",), {"list", "watch"}, set(), set()),
    (('prefetch={"enabled":false,"startupTaints":["a/"]}',), {"list", "watch"}, set(), set()),
    (
        ('prefetch.startupTaints=["startup.pantala.dev/","a/b"]',),
        {"get", "list", "watch", "patch"},
        {"patch"},
        {"--startup-taints=startup.pantala.dev/,a/b", "--node-condition=yes"},
    ),
]


@pytest.mark.parametrize(("values", "nodes", "status", "flags"), NODE_RIGHTS)
def test_h1_the_operator_may_change_nodes_only_as_the_values_say(
    render: Render, values: tuple[str, ...], nodes: set[str], status: set[str], flags: set[str]
) -> None:
    objects = render(*values)
    found = roles(objects, "ClusterRole")[("", "pantala-operator")]
    assert (nodes, status) == (found[("", "nodes")], found.get(("", "nodes/status"), set()))
    arguments = objects.container("operator/operator")["args"]
    assert flags == {each for each in arguments if each.startswith(("--startup-taints", "--node-condition"))}


def test_t12_the_operator_lists_pods_only_for_pod_selectors(render: Render) -> None:
    found = roles(render("prefetch.podSelectors=true"), "ClusterRole")[("", "pantala-operator")]
    assert {**OPERATOR, ("", "pods"): {"list"}} == found


def test_t17_admission_policies_call_no_pod(render: Render) -> None:
    objects = render()
    assert not [each for each in objects if "Webhook" in each["kind"]]
    policies, bound = objects.of_kind("ValidatingAdmissionPolicy"), objects.of_kind("ValidatingAdmissionPolicyBinding")
    assert {"pantala-nodes", "pantala-children"} == policies.keys() == bound.keys()
    assert not [each for each in render("admissionPolicies.enabled=false") if "Admission" in each["kind"]]


def test_the_hooks_have_own_rights_only_while_they_run(render: Render) -> None:
    objects = [each for each in render() if each["metadata"]["name"] == "pantala-uninstall" and each["kind"] != "Job"]
    assert {"ServiceAccount", "Role", "RoleBinding"} == {each["kind"] for each in objects}
    for each in objects:
        annotations = each["metadata"]["annotations"]
        assert ("post-delete", "-1") == (annotations["helm.sh/hook"], annotations["helm.sh/hook-weight"])


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


def test_h9_without_tls_nothing_of_the_authority_is_left(render: Render) -> None:
    plain = render("tls.enabled=false")
    assert {} == plain.of_kind("Secret") | plain.of_kind("ConfigMap")
    assert ("pantala-system", "pantala-tls") not in roles(plain, "Role")
    assert {"pantala-supernode", "pantala-test"} == plain.of_kind("Service").keys()
    for name in ("operator/operator", "supernode/supernode", "peer/peer"):
        assert [] == [flag for flag in plain.flags(name) if flag.startswith("tls")]
    assert plain.flags("peer/peer")["supernode"].startswith("http://")


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
