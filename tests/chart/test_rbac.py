"""Who may do what: the whole of it, so that a new right has to be written here too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
Render = Callable[..., list[Object]]

OPERATOR = {
    ("pantala.dev", "tasks"): {"list", "watch", "delete"},
    ("pantala.dev", "peers"): {"list", "watch", "create", "patch", "delete"},
    ("pantala.dev", "tasks/status"): {"patch"},
    ("pantala.dev", "peers/status"): {"patch"},
    ("", "nodes"): {"list", "watch"},
    ("", "events"): {"create"},
}
STATEFULSET = {("apps", "statefulsets"): {"get"}}
SECRETS = {("", "secrets"): {"get"}}
VIEW = {("pantala.dev", "tasks"): {"get", "list", "watch"}, ("pantala.dev", "peers"): {"get", "list", "watch"}}
EDIT = {("pantala.dev", "tasks"): {"create", "update", "patch", "delete", "deletecollection"}}


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
    assert {("pantala-system", "pantala-operator"): STATEFULSET} == roles(objects, "Role")
    (role,) = [each for each in objects if each["kind"] == "Role"]
    assert ["pantala-supernode"] == role["rules"][0]["resourceNames"]
    bound = {
        ("RoleBinding", "pantala-system", "pantala-operator", "pantala-operator"),
        ("ClusterRoleBinding", "", "pantala-operator", "pantala-operator"),
        ("ClusterRoleBinding", "", "pantala-operator-secrets", "pantala-operator"),
    }
    assert bound == bindings(objects)


def test_secrets_of_named_namespaces_only(render: Render) -> None:
    objects = render('operator.secretNamespaces=["a","b"]')
    assert ("", "pantala-operator-secrets") not in roles(objects, "ClusterRole")
    expected = {(namespace, "pantala-operator-secrets"): SECRETS for namespace in ("a", "b")}
    expected[("pantala-system", "pantala-operator")] = STATEFULSET
    assert expected == roles(objects, "Role")
    bound = {
        ("ClusterRoleBinding", "", "pantala-operator", "pantala-operator"),
        ("RoleBinding", "pantala-system", "pantala-operator", "pantala-operator"),
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
