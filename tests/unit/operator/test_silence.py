"""The operator finds out why a peer is silent, and says it at the Task and at the Peer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest

from pantala_operator.errors import SupernodeUnavailableError
from pantala_operator.resources import conditions
from pantala_operator.resources.api import PeerResource
from pantala_protocol.console.progress import NodeDownload, Progress, SilentPeer, TaskProgressView
from pantala_protocol.statement import CDNStatus
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

pytestmark = pytest.mark.virtual_time

NODES = ("a", "b", "c")


@pytest.fixture
async def stage() -> AsyncIterator[OperatorStage]:
    """Node ``c`` lacks the file of the Task ``t``."""
    made = OperatorStage()
    made.answers = {}
    await made.connect(*NODES)
    async with made.operator():
        made.task()
        await eventually(lambda: "ns/t" in made.supernode.wanted)
        await made.deliver(cdn_status=CDNStatus.SUCCESS, ready_peers=("a", "b"))
        task_id = made.supernode.wanted["ns/t"].task_id
        made.supernode.shown = Progress("boot", 0.0, (TaskProgressView(task_id, nodes=(NodeDownload("c", 4),)),))
        await eventually(lambda: len(NODES) == len(made.cluster.objects["peers"]), within=30)
        yield made


def silent(stage: OperatorStage, *names: str) -> None:
    """Let the supernode list these peers as silent, and no others."""
    assert stage.supernode.shown is not None
    peers = tuple(SilentPeer(name, 0.0) for name in names)
    stage.supernode.shown = msgspec.structs.replace(stage.supernode.shown, silent=peers)


def peer(stage: OperatorStage, name: str) -> tuple[str, str]:
    found = conditions.find(
        msgspec.convert(stage.cluster.objects["peers"][name], PeerResource).status.conditions, "Ready"
    )
    return (found.status, found.reason) if found is not None else ("", "")


async def test_a_silent_peer_is_cut_off_or_frozen(stage: OperatorStage) -> None:
    assert stage.answers is not None
    stage.answers["c"] = True
    silent(stage, "c")
    await stage.until("Ready", "False", "NodeCutOff")
    assert ("True", "NodeCutOff") == stage.condition("Reconciling")
    await eventually(lambda: ("False", "NodeCutOff") == peer(stage, "c"))
    await eventually(
        lambda: {("ns/t", "Warning", "NodeCutOff"), ("c", "Warning", "NodeCutOff")} <= set(stage.cluster.events)
    )
    assert {"c"} == set(stage.asked)
    stage.answers["c"] = False
    await stage.until("Ready", "False", "NodeSilent")
    await eventually(lambda: ("False", "NodeSilent") == peer(stage, "c"))
    silent(stage)
    await stage.until("Ready", "False", "Progressing")
    await eventually(lambda: ("True", "Connected") == peer(stage, "c"))
    assert () == stage.cluster.task("ns/t").status.late


async def test_a_peer_that_stays_away_is_silent(stage: OperatorStage) -> None:
    await stage.supernode.connect("c", connected=False)
    began = stage.clock.monotonic()
    await stage.until("Ready", "False", "NodeSilent")
    assert 14 <= stage.clock.monotonic() - began <= 20
    await stage.supernode.connect("c")
    await stage.until("Ready", "False", "Progressing")


async def test_a_supernode_that_is_down_makes_no_peer_silent(stage: OperatorStage) -> None:
    silent(stage, "c")
    await stage.until("Ready", "False", "NodeSilent")
    stage.supernode.outage = SupernodeUnavailableError("down")
    await stage.until("Ready", "False", "SupernodeUnavailable")
    asked = len(stage.asked)
    await eventually(lambda: stage.clock.monotonic() > 200, within=300)
    assert asked + 2 >= len(stage.asked)


async def test_a_peer_that_comes_and_goes_costs_few_writes(stage: OperatorStage) -> None:
    """A trouble stays for 5 s, so a status changes at most twice in this time."""
    stage.cluster.writes.clear()
    for second in range(40):
        silent(stage, *("c" if second % 2 else ""))
        await asyncio.sleep(1)
    written = Counter(stage.cluster.writes)
    assert 1 <= written["ns/t"] <= 16
    assert 1 <= written["c"] <= 16
    told = Counter((name, reason) for name, _, reason in stage.cluster.events)
    assert (1, 1) == (told["ns/t", "NodeSilent"], told["c", "NodeSilent"])


async def test_an_older_supernode_has_only_its_reports(stage: OperatorStage) -> None:
    stage.supernode.shown = None
    await eventually(lambda: stage.clock.monotonic() > 60, within=100)
    assert ("False", "Progressing") == stage.condition()
    assert [] == stage.asked


async def test_a_peer_that_another_supernode_hears_is_cut_off_from_one() -> None:
    made = OperatorStage("s-0", "s-1")
    spec = {"replicas": 2, "serviceName": "svc"}
    made.cluster.put("statefulsets", {"metadata": {"name": "s", "namespace": "ns"}, "spec": spec})
    made.answers = {"a": True}
    await made.connect("a")
    made.supernodes["s-0"].shown = Progress("boot", 0.0, silent=(SilentPeer("a", 0.0),))
    async with made.operator():
        await eventually(lambda: "a" in made.cluster.objects["peers"], within=30)
        await eventually(lambda: ("False", "NodeCutOff") == peer(made, "a"), within=30)
    found = msgspec.convert(made.cluster.objects["peers"]["a"], PeerResource).status.conditions
    assert (ready := conditions.find(found, "Ready")) is not None
    expected = "One supernode has not received a request from the node's peer since 00:00:00 UTC, but"
    assert ready.message.startswith(expected)


async def test_a_new_operator_does_not_forget_who_is_silent() -> None:
    made = OperatorStage()
    made.answers = {}
    await made.connect(*NODES)
    made.supernode.shown = Progress("boot", 0.0, silent=(SilentPeer("c", 0.0),))
    async with made.operator():
        made.task()
        await made.deliver(cdn_status=CDNStatus.SUCCESS, ready_peers=("a", "b"))
        await made.until("Ready", "False", "NodeSilent")
        await asyncio.sleep(20)
    made.cluster.events.clear()
    async with made.operator():
        for _ in range(80):
            assert ("False", "NodeSilent") == made.condition()
            await asyncio.sleep(0.1)
        assert [] == made.cluster.events
        made.supernode.shown = Progress("boot", 0.0)
        await made.until("Ready", "False", "Progressing")
