"""The roles of the chart have only the rights that its programs need."""

import pytest

from tests.chart.rendered import Object, Render, Rendered

OPERATOR = {
    ("pantala.dev", "tasks"): {"get", "list", "watch", "create", "patch", "delete"},
    ("pantala.dev", "imageprefetches"): {"get", "list", "watch", "delete"},
    ("pantala.dev", "peers"): {"get", "list", "watch", "create", "patch", "delete"},
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


def test_h9_without_tls_nothing_of_the_authority_is_left(render: Render) -> None:
    plain = render("tls.enabled=false")
    assert {} == plain.of_kind("Secret") | plain.of_kind("ConfigMap")
    assert ("pantala-system", "pantala-tls") not in roles(plain, "Role")
    assert {"pantala-supernode", "pantala-test"} == plain.of_kind("Service").keys()
    for name in ("operator/operator", "supernode/supernode", "peer/peer"):
        assert [] == [flag for flag in plain.flags(name) if flag.startswith("tls")]
    assert plain.flags("peer/peer")["supernode"].startswith("http://")
