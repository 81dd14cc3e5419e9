"""All rights of the chart. A new right must be added here."""

import pytest

from tests.chart.rendered import Object, Render, Rendered

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
    ("", "pods"): {"list"},
    ("", "nodes"): {"get", "list", "watch", "patch"},
    ("", "events"): {"create"},
}
STATEFULSET = {("apps", "statefulsets"): {"get"}}
UNINSTALL = {("apps", "daemonsets"): {"get", "delete"}, ("", "pods"): {"list"}}
SECRETS = {("", "secrets"): {"get"}}
VIEW = {("pantala.dev", kind): {"get", "list", "watch"} for kind in ("tasks", "imageprefetches", "peers")}
EDIT = {
    ("pantala.dev", kind): {"create", "update", "patch", "delete", "deletecollection"}
    for kind in ("tasks", "imageprefetches")
}


def rights(role: Object) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def roles(objects: Rendered, kind: str) -> dict[tuple[str, str], dict[tuple[str, str], set[str]]]:
    found = [each for each in objects if each["kind"] == kind]
    return {(each["metadata"].get("namespace", ""), each["metadata"]["name"]): rights(each) for each in found}


def bindings(objects: Rendered) -> set[tuple[str, str, str, str]]:
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["roleRef"]["name"], subject["name"])
        for each in objects
        if each["kind"].endswith("Binding")
        for subject in each["subjects"]
    }


def test_the_rights_of_a_default_install(render: Render) -> None:
    objects = render()
    expected = {
        ("", "pantala-operator"): OPERATOR,
        ("", "pantala-operator-secrets"): SECRETS,
        ("", "pantala-view"): VIEW,
        ("", "pantala-edit"): EDIT,
    }
    assert expected == roles(objects, "ClusterRole")
    within = {("pantala-system", "pantala-operator"): STATEFULSET, ("pantala-system", "pantala-uninstall"): UNINSTALL}
    assert within == roles(objects, "Role")
    named = {name: role["rules"][0]["resourceNames"] for name, role in objects.of_kind("Role").items()}
    assert {"pantala-operator": ["pantala-supernode"], "pantala-uninstall": ["pantala-cleanup"]} == named
    bound = {
        ("RoleBinding", "pantala-system", "pantala-operator", "pantala-operator"),
        ("RoleBinding", "pantala-system", "pantala-uninstall", "pantala-uninstall"),
        ("ClusterRoleBinding", "", "pantala-operator", "pantala-operator"),
        ("ClusterRoleBinding", "", "pantala-operator-secrets", "pantala-operator"),
    }
    assert bound == bindings(objects)


def test_the_operator_reads_secrets_only_in_named_namespaces(render: Render) -> None:
    objects = render('operator.secretNamespaces=["a","b"]')
    assert ("", "pantala-operator-secrets") not in roles(objects, "ClusterRole")
    expected = {(namespace, "pantala-operator-secrets"): SECRETS for namespace in ("a", "b")}
    expected[("pantala-system", "pantala-operator")] = STATEFULSET
    expected[("pantala-system", "pantala-uninstall")] = UNINSTALL
    assert expected == roles(objects, "Role")
    bound = {
        ("ClusterRoleBinding", "", "pantala-operator", "pantala-operator"),
        ("RoleBinding", "pantala-system", "pantala-operator", "pantala-operator"),
        ("RoleBinding", "pantala-system", "pantala-uninstall", "pantala-uninstall"),
        ("RoleBinding", "a", "pantala-operator-secrets", "pantala-operator"),
        ("RoleBinding", "b", "pantala-operator-secrets", "pantala-operator"),
    }
    assert bound == bindings(objects)


def test_the_users_rights_join_the_default_roles(render: Render) -> None:
    prefix = "rbac.authorization.k8s.io/"
    aggregated = {
        name: {key.rpartition("-")[2] for key in role["metadata"]["labels"] if key.startswith(prefix)}
        for name, role in render().of_kind("ClusterRole").items()
    }
    expected = {"pantala-view": {"view", "edit", "admin"}, "pantala-edit": {"edit", "admin"}}
    assert expected == {name: to for name, to in aggregated.items() if to}
    assert not [each for each in render("rbac.aggregate=false") if each["metadata"]["name"] in expected]


@pytest.mark.parametrize("value", ["prefetch.startupTaints=false", "prefetch.enabled=false"])
def test_the_operator_writes_nodes_only_to_remove_startup_taints(render: Render, value: str) -> None:
    expected = {**OPERATOR, ("", "nodes"): {"list", "watch"}}
    assert expected == roles(render(value), "ClusterRole")[("", "pantala-operator")]


def test_the_hooks_have_own_rights_only_while_they_run(render: Render) -> None:
    objects = [each for each in render() if each["metadata"]["name"] == "pantala-uninstall" and each["kind"] != "Job"]
    assert {"ServiceAccount", "Role", "RoleBinding"} == {each["kind"] for each in objects}
    for each in objects:
        annotations = each["metadata"]["annotations"]
        assert ("post-delete", "-1") == (annotations["helm.sh/hook"], annotations["helm.sh/hook-weight"])
