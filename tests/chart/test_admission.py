"""The chart's admission policies and rights, in a real API server."""

import contextlib
import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testbed.apiserver import ControlPlane
from tests.chart.rendered import CHART, Helm
from tests.support.eventually import eventually_blocking

pytestmark = pytest.mark.controlplane

NAMESPACE = "pantala-system"
OPERATOR = f"--as=system:serviceaccount:{NAMESPACE}:pantala-operator"
TAINTS = [
    {"key": "startup.pantala.dev/images", "effect": "NoSchedule"},
    {"key": "dedicated", "value": "db", "effect": "NoSchedule"},
    {"key": "node.cilium.io/agent-not-ready", "effect": "NoExecute"},
]
CONDITIONS = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
"""One that the kubelet writes."""

Ask = Callable[..., str]


@contextlib.contextmanager
def refused(message: str) -> Iterator[None]:
    """Expects that a command of kubectl in the block fails with this message."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        yield
    assert message in caught.value.stderr


@pytest.fixture(scope="module")
def kubectl(helm: Helm) -> Iterator[Ask]:
    with ControlPlane() as control_plane:
        where = ("--kubeconfig", str(control_plane.kubeconfig), "--namespace", NAMESPACE, "--create-namespace")
        values = ("--set-json", 'prefetch.startupTaints=["startup.pantala.dev/"]')
        result = helm("install", "pantala", str(CHART), *where, *values)
        assert result.returncode == 0, result.stderr
        ask = control_plane.kubectl

        def enforced() -> bool:
            ask("create", "-f", "-", text=json.dumps(child("probe")))
            ask("delete", "task", "probe", "--namespace=default")
            return False

        # The API server needs a moment to read new policies.
        with refused("Only Pantala's operator"):
            eventually_blocking(enforced, within=30, every=0.3, what="the policies are enforced")
        yield ask


@pytest.fixture
def node(kubectl: Ask) -> Iterator[str]:
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "one", "labels": {"a": "b"}},
        "spec": {"taints": TAINTS, "providerID": "x"},
    }
    kubectl("create", "-f", "-", text=json.dumps(body))
    kubectl("patch", "node", "one", "--subresource=status", "-p", json.dumps({"status": {"conditions": CONDITIONS}}))
    yield "one"
    kubectl("delete", "node", "one")


def child(name: str) -> dict[str, Any]:
    """A Task that an ImagePrefetch seems to own."""
    owner = {"apiVersion": "pantala.dev/v1alpha1", "kind": "ImagePrefetch", "name": "p", "uid": "u", "controller": True}
    return {
        "apiVersion": "pantala.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": name, "namespace": "default", "ownerReferences": [owner]},
        "spec": {"source": {"url": "https://files.example/f"}},
    }


def patch(kubectl: Ask, body: dict[str, Any], part: str = "", kind: str = "merge") -> str:
    """Patch the node, or a ``part`` of it such as ``/status``, with the operator's token. Returns the answer."""
    credentials = json.loads(kubectl("config", "view", "--raw", "-o", "json"))["clusters"][0]["cluster"]
    token = kubectl("create", "token", "pantala-operator", f"--namespace={NAMESPACE}").strip()
    request = urllib.request.Request(
        f"{credentials['server']}/api/v1/nodes/one{part}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": f"application/{kind}-patch+json"},
        method="PATCH",
    )
    try:
        with urllib.request.urlopen(
            request, context=ssl.create_default_context(cafile=credentials["certificate-authority"])
        ) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


def own(status: str = "True") -> dict[str, str]:
    return {"type": "pantala.dev/ImagesReady", "status": status, "reason": "ImagesPresent"}


def test_h1_the_operator_removes_a_listed_taint(kubectl: Ask, node: str) -> None:
    there = json.loads(kubectl("get", "node", node, "-o", "json"))["spec"]["taints"]
    patch(kubectl, {"spec": {"taints": [each for each in there if each["key"] != TAINTS[0]["key"]]}})
    left = json.loads(kubectl("get", "node", node, "-o", "json"))["spec"]["taints"]
    assert {"dedicated", "node.cilium.io/agent-not-ready"} <= {each["key"] for each in left}
    assert "startup.pantala.dev/images" not in {each["key"] for each in left}


FOREIGN: list[dict[str, Any]] = [
    {"spec": {"taints": TAINTS[:1]}},
    {"spec": {"taints": [TAINTS[0], TAINTS[1]]}},
    {"spec": {"taints": None}},
    {"spec": {"taints": [*TAINTS, {"key": "startup.pantala.dev/x", "effect": "NoSchedule"}]}},
    {"spec": {"taints": [{**TAINTS[0], "effect": "PreferNoSchedule"}, *TAINTS[1:]]}},
    {"spec": {"unschedulable": True}},
    {"metadata": {"labels": {"a": "c"}}},
    {"metadata": {"labels": {"new": "x"}}},
    {"metadata": {"annotations": {"new": "x"}}},
    {"metadata": {"finalizers": ["pantala.dev/x"]}},
]


@pytest.mark.parametrize("body", FOREIGN, ids=json.dumps)
def test_h1_the_operator_changes_nothing_else_of_a_node(kubectl: Ask, node: str, body: dict[str, Any]) -> None:
    before = json.loads(kubectl("get", "node", node, "-o", "json"))
    assert "Pantala's operator" in patch(kubectl, body)
    after = json.loads(kubectl("get", "node", node, "-o", "json"))
    assert (before["spec"], before["metadata"]["labels"]) == (after["spec"], after["metadata"]["labels"])
    kubectl("patch", "node", node, "--type=merge", "-p", json.dumps(body))  # administrators are not limited
    kubectl("patch", "node", node, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def test_h1_the_operator_writes_its_own_node_condition(kubectl: Ask, node: str) -> None:
    for status in ("False", "True"):
        patch(kubectl, {"status": {"conditions": [own(status)]}}, "/status", "strategic-merge")
    found = json.loads(kubectl("get", "node", node, "-o", "json"))["status"]["conditions"]
    assert {"Ready": "True", "pantala.dev/ImagesReady": "True"} == {each["type"]: each["status"] for each in found}


STATUS: list[dict[str, Any]] = [
    {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
    {"status": {"conditions": [{**CONDITIONS[0], "reason": "x"}]}},
    {"status": {"conditions": [own()]}},  # a merge patch drops the others
    {"status": {"conditions": [*CONDITIONS, own(), {"type": "DiskPressure", "status": "True"}]}},
    {"status": {"capacity": {"cpu": "1000"}}},
    {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}]}},
    {"metadata": {"labels": {"new": "x"}}},
]


@pytest.mark.parametrize("body", STATUS, ids=json.dumps)
def test_h1_the_operator_writes_nothing_else_of_a_status(kubectl: Ask, node: str, body: dict[str, Any]) -> None:
    assert "Pantala's operator" in patch(kubectl, body, "/status")


def test_h5_only_the_operator_makes_tasks_of_an_image_prefetch(kubectl: Ask) -> None:
    with refused("Only Pantala's operator creates the Tasks of an ImagePrefetch"):
        kubectl("create", "-f", "-", text=json.dumps(child("one")))
    plain = child("one")
    owners = plain["metadata"].pop("ownerReferences")
    kubectl("create", "-f", "-", text=json.dumps(plain))
    adopt = _owned_by(owners)
    with refused("Only Pantala's operator"):
        kubectl("patch", "task", "one", "--namespace=default", "--type=merge", "-p", adopt)
    foreign = [{**owners[0], "apiVersion": "example.com/v1"}]
    with refused("Only Pantala's operator"):
        kubectl("patch", "task", "one", "--namespace=default", "--type=merge", "-p", _owned_by(foreign))
    disguised = [{**owners[0], "apiVersion": "v1", "kind": "ConfigMap"}]
    kubectl("patch", "task", "one", "--namespace=default", "--type=merge", "-p", _owned_by(disguised))
    with refused("Only Pantala's operator"):
        kubectl("patch", "task", "one", "--namespace=default", "--type=merge", "-p", adopt)
    kubectl("patch", "task", "one", "--namespace=default", "--type=merge", "-p", adopt, OPERATOR)
    for body in ({"spec": {"priority": 5}}, {"metadata": {"ownerReferences": None}}):
        kubectl("patch", "task", "one", "--namespace=default", "--type=merge", "-p", json.dumps(body))


def _owned_by(owners: list[dict[str, Any]]) -> str:
    return json.dumps({"metadata": {"ownerReferences": owners}})


def test_t12_the_operators_rights_everywhere(kubectl: Ask) -> None:
    """All rights that ``kubectl auth can-i --list`` shows, without those of every account."""
    listed = kubectl("auth", "can-i", "--list", "--namespace=default", OPERATOR)
    rights = {}
    for line in listed.splitlines()[1:]:
        resource, _, rest = line.partition(" ")
        if resource and not resource.startswith(("selfsubject", "[")):
            rights[resource] = set(rest.rpartition("[")[2].rstrip("]").split())
    expected = {
        "tasks.pantala.dev": {"get", "list", "watch", "create", "patch", "delete"},
        "imageprefetches.pantala.dev": {"get", "list", "watch", "delete"},
        "peers.pantala.dev": {"get", "list", "watch", "create", "patch", "delete"},
        "sourcepolicies.pantala.dev": {"get", "list", "watch"},
        **{f"{kind}.pantala.dev/status": {"patch"} for kind in KINDS},
        "deployments.apps": {"list"},
        "statefulsets.apps": {"list"},
        "daemonsets.apps": {"list"},
        "namespaces": {"list"},
        "nodes": {"get", "list", "watch", "patch"},  # get and patch only with prefetch.startupTaints
        "nodes/status": {"patch"},
        "events": {"create"},
    }
    assert expected == rights


KINDS = ("tasks", "imageprefetches", "peers", "sourcepolicies")


def test_t1_a_namespace_lets_the_operator_read_its_secrets(kubectl: Ask) -> None:
    def may(namespace: str) -> str:
        return kubectl("auth", "can-i", "get", "secrets", f"--namespace={namespace}", OPERATOR, check=False).strip()

    kubectl("create", "namespace", "team")
    assert ("no", "no") == (may("team"), may("default"))
    command = (
        "create rolebinding pantala-secrets --namespace=team --clusterrole=pantala-secret-reader "
        f"--serviceaccount={NAMESPACE}:pantala-operator"
    )
    kubectl(*command.split(" "))
    assert ("yes", "no") == (may("team"), may("default"))
