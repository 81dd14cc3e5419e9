"""The chart's pods are no more privileged than they must be."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chart.pods import containers, workloads

Object = dict[str, Any]
Render = Callable[..., list[Object]]


AS_ROOT = {"peer/directories", "peer/mirror", "cleanup/cleanup"}
"""They come and go: what they write is root's."""


@pytest.mark.parametrize("values", [(), ("mirror.enabled=false",)])
def test_pods_are_restricted_but_for_what_writes_roots_files_on_the_node(
    render: Render, values: tuple[str, ...]
) -> None:
    seen = set()
    for name, container, pod in containers(render(*values)):
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
    assert seen >= AS_ROOT - ({"cleanup/cleanup"} if values else set())


def mounts(template: Object, *, of_node: bool) -> dict[str, set[tuple[str, bool]]]:
    """By container: what is mounted where, and whether it can be written; what is of the node keeps its name."""
    paths = {each["name"]: each.get("hostPath", {}).get("path") for each in template["spec"]["volumes"]}
    found: dict[str, set[tuple[str, bool]]] = {}
    for each in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
        for mount in each.get("volumeMounts", []):
            path = paths.get(mount["name"])  # None, too, for a claim of a StatefulSet's
            if of_node == (path is not None):
                assert path in (None, mount["mountPath"])
                found.setdefault(each["name"], set()).add((mount["mountPath"], not mount.get("readOnly")))
    return found


def test_each_container_sees_of_the_node_what_it_is_for(render: Render) -> None:
    pods = workloads(render('peer.root="/srv/pantala"'))
    root, folder = ("/srv/pantala", True), ("/etc/containerd", True)
    expected = {
        "directories": {root},
        "mirror": {root, folder},
        "peer": {root},
        "runtime": {("/run/containerd", False), ("/var/lib/containerd/io.containerd.content.v1.content", False)},
    }
    assert expected == mounts(pods["peer"], of_node=True)
    assert {"cleanup": {root, folder}} == mounts(pods["cleanup"], of_node=True)
    for component in ("operator", "supernode", "uninstall"):
        assert {} == mounts(pods[component], of_node=True)
    own = {"peer": {("/var/run/secrets/pantala", False), ("/run/pantala", True)}, "runtime": {("/run/pantala", True)}}
    assert own == mounts(pods["peer"], of_node=False)


def test_without_prefetching_no_socket_of_the_runtime_is_mounted(render: Render) -> None:
    peer = workloads(render("prefetch.enabled=false"))["peer"]
    assert ["peer"] == [each["name"] for each in peer["spec"]["containers"]]
    assert "--runtime-socket=none" in peer["spec"]["containers"][0]["args"]
    paths = {each["hostPath"]["path"] for each in peer["spec"]["volumes"] if "hostPath" in each}
    assert {"/var/lib/pantala", "/etc/containerd"} == paths


def test_the_helpers_socket_and_the_runtimes_are_where_both_sides_look(render: Render) -> None:
    values = 'containerd={"socket":"/run/k3s/containerd/containerd.sock","content":"/var/lib/k3s/content"}'
    peer, helper = workloads(render(values))["peer"]["spec"]["containers"]
    (socket,) = {each.partition("=")[2] for each in peer["args"] if each.startswith("--runtime-socket=")}
    assert f"--listen={socket}" in helper["args"]
    assert {"--runtime=unix:///run/k3s/containerd/containerd.sock", "--content=/var/lib/k3s/content"} < set(
        helper["args"]
    )
    assert ("/run/k3s/containerd", "/var/lib/k3s/content") == tuple(
        each["mountPath"] for each in helper["volumeMounts"] if each["name"] in ("socket", "content")
    )


def test_only_who_needs_it_has_a_token_of_the_api_server(render: Render) -> None:
    tokens = {name: each["spec"]["automountServiceAccountToken"] for name, each in workloads(render()).items()}
    assert {"operator": True, "supernode": True, "peer": False, "cleanup": False, "uninstall": True} == tokens
    assert workloads(render("mirror.enabled=false"))["uninstall"]["spec"]["automountServiceAccountToken"] is False


def test_all_three_show_a_short_lived_token_that_is_good_for_pantala_alone(render: Render) -> None:
    for component in ("operator", "peer", "supernode"):
        volumes = {each["name"]: each for each in workloads(render())[component]["spec"]["volumes"]}
        (source,) = volumes["token"]["projected"]["sources"]
        expected = {"audience": "pantala", "expirationSeconds": 600, "path": "token"}
        assert expected == source["serviceAccountToken"]
