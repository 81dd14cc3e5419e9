"""The end of an uninstall: it waits for nodes a limited time, and names those that are not restored."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from pantala_operator.errors import ClusterForbiddenError, ClusterNotFoundError, ClusterUnavailableError
from pantala_operator.hooks.uninstall import CleanupPod, CleanupResult, end_term, main, report, wait

pytestmark = pytest.mark.virtual_time

DAEMONSET = "/apis/apps/v1/namespaces/ns/daemonsets/cleanup"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/operator"
NO_ANSWER = ClusterUnavailableError("no answer")
Body = dict[str, Any]


def daemonset(desired: int = 2, **status: Any) -> Body:
    status = status or {"observedGeneration": 2, "desiredNumberScheduled": desired}
    return {"metadata": {"generation": 2}, "spec": {"selector": {"matchLabels": {"app": "cleanup"}}}, "status": status}


def pod(node: str, *, ready: bool = False, message: str = "") -> Body:
    last = {"terminated": {"exitCode": 1, "message": message}} if message else {}
    status = {
        "conditions": [{"type": "Ready", "status": str(ready)}],
        "initContainerStatuses": [{"state": {"waiting": {}}, "lastState": last}],
    }
    return {"spec": {"nodeName": node}, "status": status}


def done(*nodes: str) -> list[Body]:
    return [pod(node, ready=True) for node in nodes]


@dataclass
class Nodes:
    """An API server, as the request of its adapter. The nodes are restored one after the other."""

    looks: list[Body | Exception]
    found: list[list[Body]]
    delete_error: Exception | None = None
    deleted: list[tuple[str, str]] = field(default_factory=list)
    now: float = 0.0

    async def request(self, method: str, path: str, **more: Any) -> Any:
        if method == "delete":
            if self.delete_error:
                raise self.delete_error
            self.deleted.append((path, more.get("propagation_policy", "")))
            return {}
        if path == DAEMONSET:
            look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
            if isinstance(look, Exception):
                raise look
            return look
        assert ("/api/v1/namespaces/ns/pods", "app=cleanup") == (path, more["label_selector"])
        return {"items": self.found.pop(0) if len(self.found) > 1 else self.found[0]}

    async def wait(self, seconds: float = 90) -> CleanupResult:
        clock = asyncio.get_running_loop()
        began = clock.time()
        result = await wait(self.request, "ns", "cleanup", seconds)
        self.now = clock.time() - began
        return result


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ""),
        (ClusterNotFoundError("gone"), ""),
        (NO_ANSWER, "The Lease operator was not deleted: no answer. Run kubectl delete -n ns lease operator"),
    ],
)
async def test_it_deletes_the_lease_of_the_operators(error: Exception | None, expected: str) -> None:
    nodes = Nodes([daemonset()], [[]], delete_error=error)
    assert expected == await end_term(nodes.request, "ns", "operator")
    assert ([] if error else [(LEASE, "")]) == nodes.deleted


async def test_it_waits_for_all_nodes_and_deletes_the_daemonset() -> None:
    """The deletion does not wait for pods of nodes that are down."""
    nodes = Nodes([daemonset()], [[], [*done("a"), pod("b")], done("a", "b")])
    assert CleanupResult(2) == await nodes.wait()
    assert (2, [(DAEMONSET, "Background")]) == (nodes.now, nodes.deleted)
    assert "containerd's files are restored on all 2 nodes." == report(CleanupResult(2), "/certs.d")


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param(Nodes([daemonset(observedGeneration=1), daemonset()], [[], done("a", "b")]), id="old status"),
        pytest.param(Nodes([daemonset(other=0), daemonset()], [[], done("a", "b")]), id="no status"),
        pytest.param(Nodes([NO_ANSWER, daemonset()], [done("a", "b")]), id="API server is back"),
        pytest.param(Nodes([daemonset()], [done("a", "b")], ClusterNotFoundError("gone")), id="Helm deleted it first"),
    ],
)
async def test_it_ends_well_despite(nodes: Nodes) -> None:
    assert CleanupResult(2) == await nodes.wait()


async def test_a_node_that_is_down_is_named_after_the_time_limit() -> None:
    """A pod that is not bound names its node by its affinity."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    down, why = {"spec": {"affinity": affinity}}, "pantala-peer: /etc/x: Read-only file system;\n correct that"
    nodes = Nodes([daemonset(4)], [[*done("a"), down, pod("c", message=why)]])
    result = await nodes.wait(90)
    assert CleanupResult(4, (CleanupPod("b", False), CleanupPod("c", False, why)), 1) == result
    assert (90, [(DAEMONSET, "Background")]) == (nodes.now, nodes.deleted)
    text = report(result, "/etc/x")
    assert text.startswith("containerd's files are restored on 1 of 4 nodes. They are not restored on: b, c (pantala-")
    assert "correct that), 1 more. " in text
    assert text.endswith("hosts.toml files below /etc/x.")
    assert 1 == len(text.splitlines())


async def test_many_nodes_are_counted_and_not_all_named() -> None:
    pods = [pod(f"n{number:03}") for number in range(100)]
    text = report(await Nodes([daemonset(100)], [pods]).wait(1), "/certs.d")
    assert "n019, 80 more. " in text
    assert "n020" not in text


async def test_errors_are_reported() -> None:
    denied, also_denied = ClusterForbiddenError("no right"), ClusterForbiddenError("no right either")
    text = report(await Nodes([denied], [[]], also_denied).wait(), "/certs.d")
    assert (
        "The state of the nodes is not known: no right. The DaemonSet cleanup was not deleted: no right either. "
        "Run kubectl delete -n ns daemonset cleanup." == text
    )


def test_without_a_daemonset_there_is_only_the_notice(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--notice=kept"])
    assert "kept\n" == capsys.readouterr().out


@pytest.mark.parametrize("given", ["cleanup", "/cleanup", "ns/"])
def test_a_wrong_name_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--daemonset={given}"])
    assert 2 == ended.value.code
    assert "is not NAMESPACE/NAME" in capsys.readouterr().err
