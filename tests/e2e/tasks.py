"""Tasks in the cases: their manifests, and what is asked of them again and again."""

import time
from typing import Any

from testbed.origin import Body
from testbed.origin import sha256 as digest_of
from tests.e2e.environment import Environment
from tests.e2e.kubectl import Kubectl, Resource, eventually

MIB = 1024 * 1024


def manifest(name: str, namespace: str, url: str, **spec: Any) -> Resource:
    """A Task."""
    return {
        "apiVersion": "pantala.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": {"url": url}, **spec},
    }


def status(kubectl: Kubectl, name: str, namespace: str) -> Resource:
    """Its status; empty before the operator has seen it."""
    found: Resource = kubectl.get("tasks.pantala.dev", name, namespace).get("status", {})
    return found


def wait_cached(kubectl: Kubectl, name: str, namespace: str, share: float, timeout: float = 60.0) -> Resource:
    """Wait until ``share`` (0..1) of its pieces are on the supernode, and not all; gives the status that said so."""
    deadline = time.monotonic() + timeout
    while True:
        now = status(kubectl, name, namespace)
        pieces = now.get("pieces", {})
        total, cached = pieces.get("total", 0), pieces.get("cached", 0)
        if total and cached >= share * total:
            assert cached < total, "the Task was complete before the fault could come; slow the origin down"
            return now
        assert time.monotonic() < deadline, f"not {share:.0%} cached after {timeout:.0f} s; the status is {now}"
        time.sleep(0.3)


def assert_published(environment: Environment, nodes: list[str], path: str, body: Body) -> None:
    """Each node has the file, with the right content."""
    expected = digest_of(body)
    assert dict.fromkeys(nodes, expected) == {node: environment.sha256(node, path) for node in nodes}


def assert_nothing_left(environment: Environment, task_id: str, path: str, timeout: float = 60.0) -> None:
    """Soon no trace of the task is on the volume or on any node."""

    def gone() -> None:
        assert [] == [file for file in environment.volume_files() if task_id in file], "left on the volume"
        for node in environment.nodes():
            left = [file for file in environment.node_files(node) if task_id in file or file == f"files/{path}"]
            assert [] == left, f"left on {node}"

    eventually(gone, timeout)
