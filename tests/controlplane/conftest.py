"""The fixtures of tests with a real API server."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from testbed.apiserver import ControlPlane
from tests.support.operator_process import NODES, Kubectl, OperatorProcess, ProcessStage, ServedSupernode

ROOT = Path(__file__).resolve().parents[2]
LABELS = {"disk": "ssd", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """An API server with our resources."""
    with ControlPlane() as running:
        running.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        running.kubectl("wait", "--for=condition=Established", "--timeout=30s", "--all", "crd")
        yield running


@pytest.fixture
def kubectl(control_plane: ControlPlane) -> Iterator[Kubectl]:
    """Nodes exist. At the end all objects are deleted."""
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": each, "labels": LABELS}} for each in NODES]
    control_plane.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
    # No controller manager removes the taint of a new node.
    control_plane.kubectl("taint", "nodes", "--all", "node.kubernetes.io/not-ready-", check=False)
    yield Kubectl(control_plane)
    namespaced = "imageprefetches,tasks,deployments,pods"
    control_plane.kubectl("delete", namespaced, "--all", "--all-namespaces", "--wait=false", check=False)
    control_plane.kubectl("delete", "peers,nodes", "--all", check=False)


@pytest.fixture
async def supernode() -> AsyncIterator[ServedSupernode]:
    served = ServedSupernode()
    await served.connect(*NODES)
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
async def operator(
    control_plane: ControlPlane, supernode: ServedSupernode, kubectl: Kubectl, tmp_path: Path
) -> AsyncIterator[OperatorProcess]:
    async with OperatorProcess(control_plane, supernode, tmp_path).running(
        *("--namespace", "default", "--progress-interval", "0.5"),
        *("--startup-taints", "prefetch", "--node-condition", "yes"),
    ) as running:
        await running.ready()
        yield running


@pytest.fixture
def stage(kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess) -> ProcessStage:
    return ProcessStage(kubectl, supernode, operator)
