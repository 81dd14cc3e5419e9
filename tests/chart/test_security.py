"""The chart's pods are no more privileged than they must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.chart.pods import containers, workloads

Object = dict[str, Any]
Render = Callable[..., list[Object]]


def test_pods_are_restricted_but_for_the_one_that_makes_directories(render: Render) -> None:
    for name, container, pod in containers(render()):
        context = {**pod["securityContext"], **container["securityContext"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        root = name == "peer/directories"
        added = ["CHOWN", "FOWNER", "DAC_OVERRIDE"] if root else []
        assert added == context["capabilities"].get("add", [])
        assert context["capabilities"]["drop"] == ["ALL"]
        assert (not root, 0 if root else 65532) == (context["runAsNonRoot"], context["runAsUser"])
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_only_the_peers_see_the_node_and_only_their_root(render: Render) -> None:
    pods = workloads(render('peer.root="/srv/pantala"'))
    paths = {
        component: [each["hostPath"]["path"] for each in template["spec"].get("volumes", []) if "hostPath" in each]
        for component, template in pods.items()
    }
    assert paths == {"operator": [], "supernode": [], "peer": ["/srv/pantala"], "uninstall": []}
    mounts = {each["mountPath"] for each in pods["peer"]["spec"]["containers"][0]["volumeMounts"]}
    assert {"/srv/pantala", "/var/run/secrets/pantala"} == mounts


def test_only_who_needs_it_has_a_token_of_the_api_server(render: Render) -> None:
    pods = workloads(render())
    tokens = {name: template["spec"]["automountServiceAccountToken"] for name, template in pods.items()}
    assert tokens == {"operator": True, "supernode": True, "peer": False, "uninstall": False}


def test_all_three_show_a_short_lived_token_that_is_good_for_pantala_alone(render: Render) -> None:
    for component in ("operator", "peer", "supernode"):
        volumes = {each["name"]: each for each in workloads(render())[component]["spec"]["volumes"]}
        (source,) = volumes["token"]["projected"]["sources"]
        expected = {"audience": "pantala", "expirationSeconds": 600, "path": "token"}
        assert expected == source["serviceAccountToken"]
