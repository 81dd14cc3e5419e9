"""The exchange of a real supernode about images: orders to nodes, and reports of nodes. See also test_exchange."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from pantala_protocol.images import PullOrder, PullPhase, PullState, RuntimeState, WantedImage
from tests.support.eventually import eventually
from tests.support.manual_peer import ManualPeer
from tests.support.supernode_lab import SupernodeLab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[SupernodeLab]:
    async with SupernodeLab(tmp_path, grace=0.2) as lab:
        yield lab


def ordered(*nodes: str, key: str = "ns/app", number: int = 1) -> WantedImage:
    image = "registry.example/team/app@sha256:" + "a" * 64
    return WantedImage(key, image, credentials=("secret",), orders={node: PullOrder("run", number) for node in nodes})


async def test_a_node_receives_its_orders_once_and_their_end(lab: SupernodeLab) -> None:
    node, other = ManualPeer(lab, "n1"), ManualPeer(lab, "n2")
    assert None is (await node.say()).images
    held = asyncio.create_task(node.say())
    await eventually(lambda: len(lab.app.dispatcher.waiting) == 1)
    await lab.state(images=(ordered("n1"),), survey=("sha256:" + "b" * 64,))
    told = (await asyncio.wait_for(held, 2)).images
    assert told is not None
    assert (1, ["ns/app"], ("sha256:" + "b" * 64,)) == (told.revision, [o.key for o in told.pulls], told.survey)
    assert b"secret" not in msgspec.json.encode(told)
    assert () == (await other.say()).images.pulls  # type: ignore[union-attr]
    held = asyncio.create_task(node.say(images=1))
    await eventually(lambda: len(lab.app.dispatcher.waiting) == 1)
    await lab.state(images=(ordered("n1", "n2"),), survey=("sha256:" + "b" * 64,))  # no news for this node
    await asyncio.sleep(0.3)
    assert not held.done()
    await lab.state()
    assert (3, ()) == ((await asyncio.wait_for(held, 2)).images.revision, ())  # type: ignore[union-attr]


async def test_a_node_with_older_orders_of_another_supernode_receives_the_newer_ones(lab: SupernodeLab) -> None:
    node = ManualPeer(lab, "n1")
    await lab.state(images=(ordered("n1"),))
    assert 1 == (await node.say()).images.revision  # type: ignore[union-attr]
    for _ in range(5):
        await lab.state(images=(ordered("n1"),))
    again = (await asyncio.wait_for(node.say(images=3, deliveries={}, leaving=True), 2)).images
    assert again is not None
    assert 6 == again.revision


async def test_the_report_of_a_node_about_images_is_passed_on_and_stays(lab: SupernodeLab) -> None:
    node = ManualPeer(lab, "n1")
    state = PullState(PullPhase.READY, 1_700_000_000, run="run", fetched=7)
    runtime = RuntimeState("containerd", "1.7", mirror=True)
    await node.say(pulls={"ns/app": state}, runtime=runtime)
    changes = await lab.until(lambda changes: bool(changes.peers))
    assert ({"ns/app": state}, runtime) == (changes.peers[0].pulls, changes.peers[0].runtime)
    since = changes.version
    task = asyncio.create_task(node.say())
    await eventually(lambda: len(lab.app.dispatcher.waiting) == 1)
    changes = await lab.until(lambda changes: bool(changes.peers))
    assert (since, {"ns/app": state}) == (changes.version, changes.peers[0].pulls)
    task.cancel()
    await node.say(leaving=True, pulls={})
    changes = await lab.until(lambda changes: not changes.peers[0].pulls)
    assert runtime == changes.peers[0].runtime
