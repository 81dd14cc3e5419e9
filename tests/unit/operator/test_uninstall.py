"""The end of an uninstall: it waits for nodes a limited time, and names those that are not restored."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from kubernetes.aio import client

from pantala_operator.adapters.kubernetes import KubernetesCluster
from pantala_operator.errors import ClusterForbiddenError, ClusterNotFoundError, ClusterUnavailableError
from pantala_operator.hooks.uninstall import (
    CleanupCluster,
    CleanupDaemonSet,
    CleanupPod,
    CleanupResult,
    end_term,
    main,
    report,
    wait,
)

pytestmark = pytest.mark.virtual_time

LABELS = {"app": "cleanup"}
OBSERVED = CleanupDaemonSet(True, 2, LABELS)
DOWN = CleanupPod("b", False)


def done(*nodes: str) -> list[CleanupPod]:
    return [CleanupPod(node, True) for node in nodes]


@dataclass
class Nodes(CleanupCluster):
    """A cluster whose nodes are restored one after the other."""

    looks: list[CleanupDaemonSet | Exception]
    found: list[list[CleanupPod]]
    delete_error: Exception | None = None
    deleted: list[str] = field(default_factory=list)
    now: float = 0.0

    async def daemonset(self, namespace: str, name: str) -> CleanupDaemonSet:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return look

    async def pods(self, namespace: str, labels: dict[str, str]) -> list[CleanupPod]:
        assert LABELS == labels
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    async def delete_daemonset(self, namespace: str, name: str) -> None:
        if self.delete_error:
            raise self.delete_error
        self.deleted.append(f"{namespace}/{name}")

    async def delete_lease(self, namespace: str, name: str) -> None:
        await self.delete_daemonset(namespace, name)

    async def wait(self, seconds: float = 90) -> CleanupResult:
        clock = asyncio.get_running_loop()
        began = clock.time()
        result = await wait(self, "ns", "cleanup", seconds)
        self.now = clock.time() - began
        return result


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ""),
        (ClusterNotFoundError("gone"), ""),
        (
            ClusterUnavailableError("no answer"),
            "The Lease operator was not deleted: no answer. Run kubectl delete -n ns lease operator",
        ),
    ],
)
async def test_it_deletes_the_lease_of_the_operators(error: Exception | None, expected: str) -> None:
    nodes = Nodes([OBSERVED], [[]], delete_error=error)
    assert expected == await end_term(nodes, "ns", "operator")
    assert ([] if error else ["ns/operator"]) == nodes.deleted


async def test_it_waits_for_all_nodes_and_deletes_the_daemonset() -> None:
    nodes = Nodes([OBSERVED], [[], [*done("a"), DOWN], done("a", "b")])
    assert CleanupResult(2) == await nodes.wait()
    assert (2, ["ns/cleanup"]) == (nodes.now, nodes.deleted)
    assert "containerd's files are restored on all 2 nodes." == report(CleanupResult(2), "/certs.d")


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param(Nodes([CleanupDaemonSet(False, 0, LABELS), OBSERVED], [[], done("a", "b")]), id="old status"),
        pytest.param(Nodes([ClusterUnavailableError("gone"), OBSERVED], [done("a", "b")]), id="API server is back"),
        pytest.param(Nodes([OBSERVED], [done("a", "b")], ClusterNotFoundError("gone")), id="Helm deleted it first"),
    ],
)
async def test_it_ends_well_despite(nodes: Nodes) -> None:
    assert CleanupResult(2) == await nodes.wait()


async def test_a_node_that_is_down_is_named_after_the_time_limit() -> None:
    broken = CleanupPod("c", False, "pantala-peer: /etc/x: Read-only file system;\n correct that")
    nodes = Nodes([CleanupDaemonSet(True, 4, LABELS)], [[*done("a"), DOWN, broken]])
    result = await nodes.wait(90)
    assert CleanupResult(4, (DOWN, broken), 1) == result
    assert (90, ["ns/cleanup"]) == (nodes.now, nodes.deleted)
    text = report(result, "/etc/x")
    assert text.startswith("containerd's files are restored on 1 of 4 nodes. They are not restored on: b, c (pantala-")
    assert "correct that), 1 more. " in text
    assert text.endswith("hosts.toml files below /etc/x.")
    assert 1 == len(text.splitlines())


async def test_many_nodes_are_counted_and_not_all_named() -> None:
    pods = [CleanupPod(f"n{number:03}", False) for number in range(100)]
    text = report(await Nodes([CleanupDaemonSet(True, 100, LABELS)], [pods]).wait(1), "/certs.d")
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


Handler = Callable[[web.BaseRequest], Any]


@asynccontextmanager
async def api_server(handler: Handler) -> AsyncIterator[CleanupCluster]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        found = handler(request)
        return web.Response(status=found) if isinstance(found, int) else web.json_response(found)

    async with RawTestServer(answer) as server:
        configuration = client.Configuration()
        configuration.host = str(server.make_url("")).rstrip("/")
        cluster = KubernetesCluster(configuration)
        yield CleanupCluster(cluster.request)
        await cluster.close()


@pytest.mark.parametrize(("seen", "observed"), [(None, False), (1, False), (2, True)])
async def test_a_daemonset_is_observed_once_its_generation_is_reported(seen: int | None, observed: bool) -> None:
    status = {} if seen is None else {"observedGeneration": seen, "desiredNumberScheduled": 3}
    body = {"metadata": {"generation": 2}, "spec": {"selector": {"matchLabels": LABELS}}, "status": status}
    async with api_server(lambda request: body) as cluster:
        assert CleanupDaemonSet(observed, 3 if status else 0, LABELS) == await cluster.daemonset("ns", "name")


async def test_a_pod_that_is_not_bound_names_its_node_too() -> None:
    failed = {"terminated": {"exitCode": 1, "message": "read-only"}}
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    again = {"initContainerStatuses": [{"state": {"waiting": {}}, "lastState": failed}]}
    items = [
        {"spec": {"nodeName": "a"}, "status": ready},
        {"spec": {"affinity": affinity}, "status": {}},
        {"spec": {"nodeName": "c"}, "status": again},
    ]

    def pods(request: web.BaseRequest) -> Any:
        assert ("/api/v1/namespaces/ns/pods", "app=cleanup") == (request.path, request.query["labelSelector"])
        return {"items": items}

    async with api_server(pods) as cluster:
        expected = [CleanupPod("a", True), CleanupPod("b", False), CleanupPod("c", False, "read-only")]
        assert expected == await cluster.pods("ns", LABELS)


async def test_deletion_does_not_wait_for_pods_of_nodes_that_are_down() -> None:
    asked: list[tuple[str, str, str]] = []

    def note(request: web.BaseRequest) -> Any:
        asked.append((request.method, request.path, request.query["propagationPolicy"]))
        return {}

    async with api_server(note) as cluster:
        await cluster.delete_daemonset("ns", "name")
    assert [("DELETE", "/apis/apps/v1/namespaces/ns/daemonsets/name", "Background")] == asked


@pytest.mark.parametrize(
    ("status", "error"), [(403, ClusterForbiddenError), (404, ClusterNotFoundError), (500, ClusterUnavailableError)]
)
async def test_error_answers_have_their_own_errors(status: int, error: type[Exception]) -> None:
    async with api_server(lambda request: status) as cluster:
        with pytest.raises(error, match=f"answered {status} to GET /apis/apps/v1/namespaces/ns/daemonsets/name"):
            await cluster.daemonset("ns", "name")
