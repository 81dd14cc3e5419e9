"""Who may do what: the whole of it, so that a new right has to be written here too."""

from collections.abc import Callable
from typing import Any

import pytest

Object = dict[str, Any]
Render = Callable[..., list[Object]]

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
    """A role's verbs by API group and resource."""
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def roles(objects: list[Object], kind: str) -> dict[tuple[str, str], dict[tuple[str, str], set[str]]]:
    """Rights by namespace and name of the roles of a kind."""
    found = (each for each in objects if each["kind"] == kind)
    return {(each["metadata"].get("namespace", ""), each["metadata"]["name"]): rights(each) for each in found}


def bindings(objects: list[Object]) -> set[tuple[str, str, str, str]]:
    """Kind, namespace, role and subject of every binding."""
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["roleRef"]["name"], subject["name"])
        for each in objects
        if each["kind"].endswith("Binding")
        for subject in each["subjects"]
    }


def test_rights_of_a_default_install(render: Render) -> None:
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
    named = {each["metadata"]["name"]: each["rules"][0]["resourceNames"] for each in objects if each["kind"] == "Role"}
    assert {"pantala-operator": ["pantala-supernode"], "pantala-uninstall": ["pantala-cleanup"]} == named
    bound = {
        ("RoleBinding", "pantala-system", "pantala-operator", "pantala-operator"),
        ("RoleBinding", "pantala-system", "pantala-uninstall", "pantala-uninstall"),
        ("ClusterRoleBinding", "", "pantala-operator", "pantala-operator"),
        ("ClusterRoleBinding", "", "pantala-operator-secrets", "pantala-operator"),
    }
    assert bound == bindings(objects)


def test_secrets_of_named_namespaces_only(render: Render) -> None:
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


def test_users_rights_follow_the_roles_of_the_cluster(render: Render) -> None:
    labels = {
        each["metadata"]["name"]: each["metadata"]["labels"] for each in render() if each["kind"] == "ClusterRole"
    }
    aggregated = {
        name: {key.rpartition("-")[2] for key in values if key.startswith("rbac.authorization.k8s.io/")}
        for name, values in labels.items()
    }
    expected = {"pantala-view": {"view", "edit", "admin"}, "pantala-edit": {"edit", "admin"}}
    assert expected == {name: to for name, to in aggregated.items() if to}
    assert not [each for each in render("rbac.aggregate=false") if each["metadata"]["name"] in expected]


@pytest.mark.parametrize("value", ["prefetch.startupTaints=false", "prefetch.enabled=false"])
def test_nodes_are_written_only_where_startup_taints_are_taken_off(render: Render, value: str) -> None:
    expected = {**OPERATOR, ("", "nodes"): {"list", "watch"}}
    assert expected == roles(render(value), "ClusterRole")[("", "pantala-operator")]


def test_the_hooks_have_rights_of_their_own_that_are_there_while_they_run_only(render: Render) -> None:
    objects = [each for each in render() if each["metadata"]["name"] == "pantala-uninstall" and each["kind"] != "Job"]
    assert {"ServiceAccount", "Role", "RoleBinding"} == {each["kind"] for each in objects}
    for each in objects:
        annotations = each["metadata"]["annotations"]
        assert ("post-delete", "-1") == (annotations["helm.sh/hook"], annotations["helm.sh/hook-weight"])
