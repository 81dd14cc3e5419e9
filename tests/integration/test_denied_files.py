"""One file or folder of a peer's root that the peer may not use costs one copy, and does not stop the start."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantala_protocol.reasons import Reason
from pantala_protocol.sync import Delivery, DeliveryStatus
from tests.support.eventually import eventually
from tests.support.peer_lab import PeerLab
from tests.support.scripted_files import File, content
from tests.support.scripted_supernode import PUBLISHED, ScriptedSupernode
from tests.support.unprivileged import unprivileged

ONE, TWO = File("one", content(3)), File("two", content(3, seed=2))
BOTH = ((ONE, (Delivery("one", "one"),)), (TWO, (Delivery("two", "two"),)))


@pytest.fixture
def folder() -> Iterator[Path]:
    with unprivileged() as found:
        yield found


@pytest.mark.parametrize("place", ["data", "journal", "meta.json", "", "records", "orders"])
async def test_a_start_without_the_right_to_one_file_loses_one_copy(folder: Path, place: str) -> None:
    supernode = ScriptedSupernode()
    async with supernode.serving():
        lab = PeerLab(folder, supernode)
        async with lab.peer():
            await published(supernode)
        sent, directory = len(supernode.sent), lab.root() / "cache" / ONE.task_id[:2] / ONE.task_id
        for path in {
            "records": (lab.root() / "published").glob("*.json"),
            "orders": [lab.root() / "cache" / "images.json", lab.root() / "cache" / "images.json.copy"],
        }.get(place, [directory / place]):
            path.touch()
            path.chmod(0)
        supernode.peers.clear()
        async with lab.peer():
            await published(supernode)
        assert ONE.content == lab.published("one").read_bytes()
        own = place not in ("records", "orders")
        assert {(ONE.task_id, number) for number in range(3) if own} == set(supernode.sent[sent:])


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_file_stays_published_until_a_copy_replaces_the_denied_one(folder: Path, *, restarts: bool) -> None:
    """Programs may still read it, for example after an administrator has given it to another user."""
    supernode = ScriptedSupernode()
    async with supernode.serving(), contextlib.AsyncExitStack() as life:
        lab = PeerLab(folder, supernode)
        node = await life.enter_async_context(lab.peer(recheck_interval=0.2))
        await published(supernode)
        before = lab.published("one").stat().st_ino
        supernode.window = 0
        if restarts:
            await life.aclose()
            supernode.peers.clear()
        lab.published("one").chmod(0)
        if restarts:
            node = await life.enter_async_context(lab.peer())
        await eventually(lambda: {TWO.task_id} == node.cache.inventory().keys())
        await eventually(lambda: supernode.delivered(uid="one") is None)
        assert before == lab.published("one").stat().st_ino
        supernode.window = 4
        await supernode.notify()
        await published(supernode)
        assert ONE.content == lab.published("one").read_bytes()


async def test_a_folder_of_copies_that_is_denied_is_named_until_the_peer_may_use_it(folder: Path) -> None:
    supernode = ScriptedSupernode()
    supernode.pause_after_failure = 0.1
    async with supernode.serving():
        lab = PeerLab(folder, supernode)
        async with lab.peer():
            await published(supernode)
        denied = lab.root() / "cache" / ONE.task_id[:2]
        denied.chmod(0)
        supernode.peers.clear()
        async with lab.peer(recheck_interval=0.2):
            await supernode.until_published(uid="two")
            state = await supernode.until_delivered(uid="one")
            assert (DeliveryStatus.FAILED, Reason.NODE_DISK_FAILED) == (state.status, state.reason)
            assert str(denied) in state.message
            assert f"Give the user {os.geteuid()}," in state.message
            denied.chmod(0o700)
            await eventually(lambda: supernode.delivered(uid="one") == PUBLISHED)


async def published(supernode: ScriptedSupernode) -> None:
    await supernode.assign("node-1", *BOTH)
    await eventually(lambda: {PUBLISHED} == {supernode.delivered(uid=uid) for uid in ("one", "two")})


async def test_a_file_that_cannot_be_removed_is_removed_later(folder: Path) -> None:
    supernode = ScriptedSupernode()
    async with supernode.serving():
        lab = PeerLab(folder, supernode)
        async with lab.peer(recheck_interval=0.2) as node:
            await published(supernode)
            (lab.root() / "files").chmod(0)
            await supernode.assign("node-1")
            await eventually(lambda: not node.tasks._assigned and not node.tasks._settling)
            assert node.cache.tasks(), "the removal failed"
            (lab.root() / "files").chmod(0o755)
            await eventually(lambda: not any((lab.root() / "files").iterdir()))
            await eventually(lambda: not node.cache.tasks())
