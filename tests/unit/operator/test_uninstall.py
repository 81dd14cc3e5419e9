"""The end of an uninstall: it waits for nodes, not for ever, and names those that are not done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientSession, web

from pantala_operator.cleanup.cluster import KubernetesCleanup
from pantala_operator.cleanup.uninstall import CleanupDaemonSet, CleanupPod, CleanupResult, main, report, wait
from pantala_operator.errors import ClusterForbiddenError, ClusterNotFoundError, ClusterUnavailableError

LABELS = {"app": "cleanup"}
HEEDED = CleanupDaemonSet(True, 2, LABELS)
DOWN = CleanupPod("b", False)


@dataclass
class Nodes:
    """A cluster whose nodes get done; time goes by only while it is slept."""

    looks: list[CleanupDaemonSet | Exception]
    pods: list[list[CleanupPod]]
    refuse_delete: Exception | None = None
    deleted: list[str] = field(default_factory=list)
    now: float = 0.0

    async def cleanup(self, namespace: str, name: str) -> CleanupDaemonSet:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return look

    async def cleanup_pods(self, namespace: str, labels: dict[str, str]) -> list[CleanupPod]:
        assert LABELS == labels
        return self.pods.pop(0) if len(self.pods) > 1 else self.pods[0]

    async def delete_cleanup(self, namespace: str, name: str) -> None:
        if self.refuse_delete:
            raise self.refuse_delete
        self.deleted.append(f"{namespace}/{name}")

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def wait(self, seconds: float = 90) -> CleanupResult:
        return await wait(self, "ns", "cleanup", seconds, clock=lambda: self.now, sleep=self.sleep)


def done(*nodes: str) -> list[CleanupPod]:
    return [CleanupPod(node, True) for node in nodes]


async def test_it_waits_for_all_nodes_and_takes_the_daemonset_away() -> None:
    nodes = Nodes([HEEDED], [[], [*done("a"), DOWN], done("a", "b")])
    assert CleanupResult(2) == await nodes.wait()
    assert (2, ["ns/cleanup"]) == (nodes.now, nodes.deleted)
    assert "On all 2 nodes containerd's files are as they were." == report(CleanupResult(2), "/certs.d")


async def test_numbers_of_before_the_controller_saw_it_do_not_count() -> None:
    nodes = Nodes([CleanupDaemonSet(False, 0, LABELS), HEEDED], [[], done("a", "b")])
    assert CleanupResult(2) == await nodes.wait()


async def test_a_node_that_is_down_is_named_after_a_while_and_holds_nobody_up() -> None:
    broken = CleanupPod("c", False, "pantala-peer: /etc/x: Read-only file system;\n correct that")
    nodes = Nodes([CleanupDaemonSet(True, 4, LABELS)], [[*done("a"), DOWN, broken]])
    outcome = await nodes.wait(90)
    assert CleanupResult(4, (DOWN, broken), 1) == outcome
    assert (90, ["ns/cleanup"]) == (nodes.now, nodes.deleted)
    said = report(outcome, "/etc/x")
    expected = "On 1 of 4 nodes containerd's files are as they were, not on: b, c (pantala-peer: /etc/x: Read-only file"
    assert said.startswith(expected)
    assert "correct that), 1 more. " in said
    assert said.endswith("hosts.toml files below /etc/x.")
    assert 1 == len(said.splitlines())


async def test_many_nodes_are_counted_and_not_all_named() -> None:
    nodes = Nodes(
        [CleanupDaemonSet(True, 100, LABELS)], [[CleanupPod(f"n{number:03}", False) for number in range(100)]]
    )
    said = report(await nodes.wait(1), "/certs.d")
    assert "n019, 80 more. " in said
    assert "n020" not in said


async def test_an_api_server_that_comes_back_is_asked_again() -> None:
    nodes = Nodes([ClusterUnavailableError("gone"), HEEDED], [done("a", "b")])
    assert CleanupResult(2) == await nodes.wait()


async def test_trouble_is_told_and_ends() -> None:
    nodes = Nodes([ClusterForbiddenError("no right")], [[]], refuse_delete=ClusterForbiddenError("no right either"))
    said = report(await nodes.wait(), "/certs.d")
    assert said.startswith("It is not known which nodes are done: no right. The DaemonSet cleanup could not be removed")
    assert "kubectl delete -n ns daemonset cleanup" in said


async def test_helm_may_have_been_first() -> None:
    nodes = Nodes([HEEDED], [done("a", "b")], refuse_delete=ClusterNotFoundError("gone"))
    assert CleanupResult(2) == await nodes.wait()


def test_without_a_daemonset_there_is_only_the_notice(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--notice=kept"])
    assert "kept\n" == capsys.readouterr().out


@pytest.mark.parametrize("given", ["cleanup", "/cleanup", "ns/"])
def test_a_wrong_name_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--daemonset={given}"])
    assert 2 == ended.value.code
    assert "is not NAMESPACE/NAME" in capsys.readouterr().err


Handler = Callable[[web.Request], Any]


@asynccontextmanager
async def api_server(handler: Handler) -> AsyncIterator[KubernetesCleanup]:
    async def answer(request: web.Request) -> web.StreamResponse:
        found = handler(request)
        return web.Response(status=found) if isinstance(found, int) else web.json_response(found)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            yield KubernetesCleanup(session)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("observed", "heeded"), [(None, False), (1, False), (2, True)])
async def test_a_daemonset_is_heeded_when_its_controller_says_so(observed: int | None, heeded: bool) -> None:
    status = {} if observed is None else {"observedGeneration": observed, "desiredNumberScheduled": 3}
    body = {"metadata": {"generation": 2}, "spec": {"selector": {"matchLabels": LABELS}}, "status": status}
    async with api_server(lambda request: body) as cluster:
        assert CleanupDaemonSet(heeded, 3 if status else 0, LABELS) == await cluster.cleanup("ns", "name")


async def test_pods_are_read_also_where_none_was_bound_to_its_node() -> None:
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

    def pods(request: web.Request) -> Any:
        assert ("/api/v1/namespaces/ns/pods", "app=cleanup") == (request.path, request.query["labelSelector"])
        return {"items": items}

    async with api_server(pods) as cluster:
        expected = [CleanupPod("a", True), CleanupPod("b", False), CleanupPod("c", False, "read-only")]
        assert expected == await cluster.cleanup_pods("ns", LABELS)


async def test_deletion_does_not_wait_for_pods_of_nodes_that_are_down() -> None:
    asked: list[tuple[str, str, str]] = []

    def note(request: web.Request) -> Any:
        asked.append((request.method, request.path, request.query["propagationPolicy"]))
        return {}

    async with api_server(note) as cluster:
        await cluster.delete_cleanup("ns", "name")
    assert [("DELETE", "/apis/apps/v1/namespaces/ns/daemonsets/name", "Background")] == asked


@pytest.mark.parametrize(
    ("status", "error"), [(403, ClusterForbiddenError), (404, ClusterNotFoundError), (500, ClusterUnavailableError)]
)
async def test_refusals_are_told_apart(status: int, error: type[Exception]) -> None:
    async with api_server(lambda request: status) as cluster:
        with pytest.raises(error, match=f"answered {status} to GET /apis/apps/v1/namespaces/ns/daemonsets/name"):
            await cluster.cleanup("ns", "name")
