"""Events of the API server get lost, come twice, or come from the past. The end state is the same."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from testbed.apiserver import ControlPlane
from tests.support.api_proxy import APIProxy
from tests.support.eventually import eventually
from tests.support.operator_process import NODES, Kubectl, OperatorProcess, ServedSupernode

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]

FAULTS: dict[str, dict[str, float]] = {
    "dropped": {"drop": 0.5},
    "repeated": {"repeat": 0.9},
    "aged": {"age": 0.9},
    "all": {"drop": 0.2, "repeat": 0.2, "age": 0.2, "expire": 0.1},
}
NAMES = tuple(f"t{number}" for number in range(12))


@pytest.fixture
async def proxy(control_plane: ControlPlane) -> AsyncIterator[APIProxy]:
    made = APIProxy(control_plane)
    async with made.serving():
        yield made


def _facts(task: dict[str, Any]) -> tuple[tuple[str, str], str, str]:
    status = task.get("status", {})
    found = {each["type"]: (each["status"], each["reason"]) for each in status.get("conditions", ())}
    return found.get("Ready", ("", "")), status.get("summary", ""), status.get("path", "")


@pytest.mark.parametrize("fault", FAULTS)
async def test_f11_events_that_are_lost_repeated_or_old_change_nothing_in_the_end(
    control_plane: ControlPlane,
    kubectl: Kubectl,
    supernode: ServedSupernode,
    proxy: APIProxy,
    tmp_path: Path,
    fault: str,
) -> None:
    """Tasks are made, edited, finished and deleted. A full list brings what the watch missed."""
    for name, share in FAULTS[fault].items():
        setattr(proxy, name, share)
    operator = OperatorProcess(control_plane, supernode, tmp_path, kubeconfig=proxy.kubeconfig(tmp_path / "proxied"))
    async with operator.running("--relist-interval", "4", "--progress-interval", "0.5"):
        await operator.ready()
        for name in NAMES:
            await kubectl.task(name)
        for name in NAMES[:8]:
            await kubectl.task(name, path=f"default/edited-{name}")
        await kubectl("delete", "tasks", *NAMES[8:])
        wanted = {f"default/{name}" for name in NAMES[:8]}
        paths = {f"default/edited-{name}" for name in NAMES[:8]}
        await eventually(
            lambda: (wanted, paths) == (set(supernode.wanted), {each.path for each in supernode.wanted.values()}),
            within=30,
            what="the statement has the Tasks that exist",
        )
        for name in NAMES[:8]:
            await supernode.deliver(f"default/{name}")

        facts = {
            name: (("True", "Distributed"), f"{len(NODES)}/{len(NODES)}", f"default/edited-{name}")
            for name in NAMES[:8]
        }

        async def settled() -> bool:
            return facts == {each["metadata"]["name"]: _facts(each) for each in (await kubectl.get("tasks"))["items"]}

        await eventually(settled, within=30)
        versions = await kubectl("get", "tasks", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
        await asyncio.sleep(4)
        assert versions == await kubectl("get", "tasks", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
        assert proxy.injected > 5
        assert operator.returncode is None
        assert "Traceback" not in operator.log
