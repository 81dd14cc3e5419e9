"""Two operators as processes between a real API server and a supernode: one is killed, paused or stopped."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from pantala_operator.adapters import kubernetes
from pantala_operator.errors import ClusterConflictError, ClusterForbiddenError
from pantala_operator.resources.api import Metadata
from pantala_operator.resources.lease import LeaseResource
from testbed.apiserver import ControlPlane
from tests.controlplane.conftest import ROOT
from tests.support.eventually import eventually
from tests.support.operator_process import Kubectl, OperatorProcess, ServedSupernode

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]

LEASE = "default/pantala-operator"


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """An API server that records all writes."""
    with ControlPlane(audit=True) as running:
        running.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        running.kubectl("wait", "--for=condition=Established", "--timeout=30s", "--all", "crd")
        yield running


@dataclass
class Pair:
    """The leading operator ``first``, the other one, and what both work with."""

    first: OperatorProcess
    second: OperatorProcess
    kubectl: Kubectl
    supernode: ServedSupernode
    control_plane: ControlPlane

    async def lease(self) -> dict[str, Any]:
        return dict((await self.kubectl.get("lease", "pantala-operator"))["spec"])

    async def finish(self, name: str, timeout: str = "30s") -> None:
        """Let the supernode report a Task as done, and wait until it is Ready."""
        await self.supernode.deliver(f"default/{name}")
        await self.kubectl.wait("condition=Ready", f"task/{name}", timeout=timeout)

    def writes(self, user: str) -> list[dict[str, Any]]:
        """The writes of one operator that succeeded, except those of its Lease."""
        events = self.control_plane.writes(user)
        return [
            each
            for each in events
            if each["objectRef"]["resource"] != "leases" and each["responseStatus"]["code"] < 400
        ]


@pytest.fixture
async def pair(
    control_plane: ControlPlane, supernode: ServedSupernode, kubectl: Kubectl, tmp_path: Path
) -> AsyncIterator[Pair]:
    await kubectl("delete", "lease", "pantala-operator", check=False)
    async with AsyncExitStack() as stack:
        operators: list[OperatorProcess] = []
        for name in ("one", "two"):
            kubeconfig = await asyncio.to_thread(control_plane.user, name)
            operator = OperatorProcess(control_plane, supernode, tmp_path, name, kubeconfig)
            await stack.enter_async_context(operator.running("--lease", LEASE, "--progress-interval", "0.5"))
            await operator.ready()
            await eventually(lambda: len(supernode.statements) > 0, within=20, what="the first operator leads")
            operators.append(operator)
        first, second = operators
        yield Pair(first, second, kubectl, supernode, control_plane)


async def test_f13_another_operator_goes_on_when_the_leading_one_is_killed(pair: Pair) -> None:
    await pair.kubectl.task("before")
    await pair.finish("before")
    assert [] == pair.writes("two")
    pair.first.signal(signal.SIGKILL)
    began = time.monotonic()
    await pair.kubectl.task("after")
    await pair.supernode.wanting("default/after")
    took = time.monotonic() - began
    print(f"failover after {took:.1f} s")
    await pair.finish("after", timeout="10s")
    assert took < 15
    assert 2 == (await pair.lease())["leaseTransitions"]
    assert {1, 2} == {each.epoch for each in pair.supernode.statements}
    assert ("True", "Distributed") == (await pair.kubectl.conditions("before"))["Ready"]


async def test_m4_a_stopped_leader_hands_over_at_once(pair: Pair) -> None:
    began = time.monotonic()
    await asyncio.to_thread(pair.first.stop)
    await eventually(lambda: pair.supernode.epoch == 2, within=20)
    assert time.monotonic() - began < 5
    assert 0 == pair.first.returncode


async def test_f13_a_paused_leader_changes_nothing_when_it_wakes_up(pair: Pair) -> None:
    """It has Tasks to write and to state at that moment. Then it ends, and starts again as the other one."""
    await pair.kubectl.task("before")
    await pair.finish("before")
    await pair.kubectl.task("racing")
    await pair.supernode.deliver("default/racing")
    pair.first.signal(signal.SIGSTOP)
    await asyncio.sleep(1)  # a request may be under way
    wrote = len(pair.writes("one"))
    await pair.kubectl.task("meanwhile")
    await pair.kubectl("delete", "task", "before")
    await eventually(lambda: pair.supernode.epoch == 2, within=20, what="the second operator leads")
    await pair.finish("meanwhile")
    await pair.kubectl.wait("condition=Ready", "task/racing")
    await eventually(lambda: set(pair.supernode.wanted) == {"default/meanwhile", "default/racing"})
    versions = await pair.kubectl("get", "tasks,peers", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
    stated = len(pair.supernode.statements)
    pair.first.signal(signal.SIGCONT)
    await eventually(lambda: pair.first.returncode is not None, within=20, what="the former leader ends")
    await asyncio.sleep(1)
    assert 1 == pair.first.returncode
    assert "another operator leads now" in pair.first.log
    assert "Traceback" not in pair.first.log
    assert wrote == len(pair.writes("one"))
    assert versions == await pair.kubectl("get", "tasks,peers", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
    assert all(each.epoch == 2 for each in pair.supernode.statements[stated:])
    assert {"default/meanwhile", "default/racing"} == set(pair.supernode.wanted)
    assert 200 == pair.second.ask("/readyz")[0]


async def test_m4_rights_on_one_lease_are_enough(control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path) -> None:
    """The chart grants get, create and update on this name only. PUT creates the Lease, if it was deleted."""
    await kubectl("create", "serviceaccount", "elected")
    rule = {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["mine"],
        "verbs": ["get", "create", "update"],
    }
    metadata = {"name": "elected", "namespace": "default"}
    await kubectl.apply(
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    )
    await kubectl("create", "rolebinding", "elected", "--role=elected", "--serviceaccount=default:elected")
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": (await kubectl("create", "token", "elected")).strip()}
    path = tmp_path / "elected.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    cluster = await kubernetes.connect(str(path))
    try:
        now = datetime.now(UTC)
        empty = LeaseResource(Metadata("mine", "default"))
        made = await cluster.write_lease(empty.held("a", 1, 10, now))
        assert ("a", 1) == (made.holder, made.transitions)
        renewed = await cluster.write_lease(made.held("a", 1, 10, now + timedelta(seconds=2)))
        for outdated in (made, empty):
            with pytest.raises(ClusterConflictError):
                await cluster.write_lease(outdated.held("b", 2, 10, now))
        assert renewed == await cluster.read_lease(made.metadata)
        with pytest.raises(ClusterForbiddenError):
            await cluster.write_lease(LeaseResource(Metadata("other", "default")).held("a", 1, 10, now))
    finally:
        await cluster.close()
