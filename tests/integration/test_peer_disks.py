"""Disks without room, damaged files, and paths that cannot be used."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from pantala_peer import metrics as peer_metrics
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import Assignment, Delivery, DeliveryStatus
from tests.support.eventually import eventually
from tests.support.peer_lab import PeerLab
from tests.support.peer_lab import it as it
from tests.support.scripted_files import File, content
from tests.support.scripted_supernode import PUBLISHED
from tests.support.small_disk import remount, small_disk

# The node's own disk


async def test_f3_a_file_that_does_not_fit_is_reported_and_fetched_later(it: PeerLab) -> None:
    supernode, made = it.supernode, it.supernode._assignments

    def huge(peer: str) -> tuple[Assignment, ...]:
        """As large as a file may be."""
        return tuple(msgspec.structs.replace(each, length=each.piece_size << 22) for each in made(peer) or ())

    supernode._assignments = huge  # type: ignore[method-assign]
    supernode.pause_after_failure = 0.2
    async with it.peer():
        await supernode.deliver(File("a", content(2)))
        state = await supernode.until_delivered()
        assert (DeliveryStatus.FAILED, Reason.NODE_DISK_FULL) == (state.status, state.reason)
        await eventually(lambda: {"local"} == {failure.kind for failure in supernode.failures})
        assert [] == supernode.sent
        supernode._assignments = made  # type: ignore[method-assign]
        supernode.revision += 1
        await supernode.notify()
        await eventually(lambda: supernode.delivered() == PUBLISHED)


async def test_a_peer_says_once_that_its_disk_is_full(it: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_metrics, "_MEASURE", 0.01)
    with capture_logs() as logged, small_disk(it.root(), 1 << 20) as disk:
        disk.chmod(0o755)
        (disk / "other").write_bytes(bytes(1 << 20))
        async with it.peer() as node:
            await eventually(lambda: b'part="free"} 0.0' in generate_latest(node.metrics.registry))
            await asyncio.sleep(0.1)  # the peer measures several times
        found = [each for each in logged if "the disk has no room" in each["event"]]
    assert [(0, 1 << 20, (1 << 20) // 10)] == [(each["free"], each["total"], each["headroom"]) for each in found]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("../a", Reason.PATH_OUTSIDE_ROOT), ("/a", Reason.PATH_OUTSIDE_ROOT), ("theirs", Reason.PATH_CONFLICT)],
)
async def test_a_path_that_cannot_be_used_is_a_failed_delivery(it: PeerLab, path: str, reason: Reason) -> None:
    async with it.peer():
        await eventually(lambda: "node-1" in it.supernode.peers)
        it.published("theirs").write_bytes(b"theirs")
        deliveries = (Delivery("bad", path), Delivery("good", "a"))
        await it.supernode.assign("node-1", (File("a", content(1)), deliveries))
        state = await it.supernode.until_delivered(uid="bad")
        assert (DeliveryStatus.FAILED, reason) == (state.status, state.reason)
        await it.supernode.until_published(uid="good")
    assert b"theirs" == it.published("theirs").read_bytes()


async def test_a_path_that_another_task_releases_is_used(it: PeerLab) -> None:
    first, second = File("a", content(2)), File("b", content(2, seed=2))
    async with it.peer():
        await it.supernode.publish(first, uid="one")
        both = ((first, (Delivery("one", "a"),)), (second, (Delivery("two", "a"),)))
        await it.supernode.assign("node-1", *both)
        assert Reason.PATH_CONFLICT == (await it.supernode.until_delivered(uid="two")).reason
        await it.supernode.assign("node-1", both[1])
        await eventually(lambda: it.supernode.delivered(uid="two") == PUBLISHED)
    assert second.content == it.published().read_bytes()


@pytest.mark.parametrize("harm", ["deleted", "changed", "cache deleted"])
async def test_a_damaged_published_file_is_published_again(it: PeerLab, harm: str) -> None:
    file, published = File("a", content(3)), it.published("d/a")
    async with it.peer(recheck_interval=0.2):
        await it.supernode.publish(file, "d/a")
        if harm == "changed":
            published.chmod(0o600)
            published.write_bytes(b"changed")
        else:
            for path in (it.root() / "cache").rglob("*"):
                if path.is_file() and harm == "cache deleted":
                    path.unlink()
            published.unlink()
        await eventually(lambda: published.exists() and published.read_bytes() == file.content)
        await eventually(lambda: it.supernode.delivered() == PUBLISHED)


async def test_m8_f21_a_published_file_that_rots_on_the_disk_is_repaired_by_the_scrub(it: PeerLab) -> None:
    """The rot changes neither the size nor the time of the file. Only the wrong piece is fetched again."""
    file, supernode, published = File("a", content(4)), it.supernode, it.published()
    async with it.peer(scrub_interval=1.0):
        await supernode.publish(file)
        sent, status = len(supernode.sent), published.stat()
        published.chmod(0o600)
        with published.open("r+b") as raw:
            raw.write(b"rot")
        os.utime(published, ns=(status.st_atime_ns, status.st_mtime_ns))
        states = []

        def repaired() -> bool:
            states.append(supernode.delivered())
            return published.exists() and published.read_bytes() == file.content

        supernode.window = 0
        await eventually(lambda: repaired() or (states[-1] and states[-1].status is DeliveryStatus.FAILED))
        assert states[-1] is not None
        assert Reason.DIGEST_MISMATCH == states[-1].reason
        assert not published.exists()
        supernode.window = 4
        await supernode.notify()
        await eventually(repaired)
        await eventually(lambda: supernode.delivered() == PUBLISHED)
    assert 1 == len(supernode.sent) - sent


# The whole disk. Needs root to mount a small tmpfs.


@pytest.fixture
def small(it: PeerLab) -> Iterator[Path]:
    with small_disk(it.root(), 4 << 20) as disk:
        disk.chmod(0o755)
        yield disk


async def test_f3_a_disk_that_is_full_at_the_publication_is_reported(it: PeerLab, small: Path) -> None:
    file, supernode, filler = File("a", content(3), digest_known=False), it.supernode, small / "filler"
    async with it.peer(disk_headroom=0, recheck_interval=0.2) as node:
        await supernode.deliver(file, "d/a")
        await eventually(lambda: node.cache.is_whole(file.task_id))
        with contextlib.suppress(OSError):
            filler.write_bytes(bytes(4 << 20))
        file.digest_known = True
        supernode.revision += 1
        await supernode.notify()
        await eventually(lambda: (found := supernode.delivered()) and found.reason == Reason.NODE_DISK_FULL)
        filler.unlink()
        await eventually(lambda: supernode.delivered() == PUBLISHED)
    assert supernode.has_sent_once(file)
    assert file.content == it.published("d/a").read_bytes()


async def test_a_peer_starts_on_a_read_only_disk_and_recovers(it: PeerLab, small: Path) -> None:
    file, supernode = File("a", content(3)), it.supernode
    async with it.peer():
        await supernode.publish(file)
    remount(small, "ro")
    supernode.peers.clear()
    async with it.peer(recheck_interval=0.2):
        state = await supernode.until_delivered()
        assert (DeliveryStatus.FAILED, Reason.NODE_DISK_FAILED) == (state.status, state.reason)
        assert "Mount the disk so that this process can write to it" in state.message
        assert file.content == it.published().read_bytes()
        remount(small, "rw")
        await eventually(lambda: supernode.delivered() == PUBLISHED)
    assert supernode.has_sent_once(file)
