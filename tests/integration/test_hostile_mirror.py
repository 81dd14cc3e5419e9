"""A hostile peer claims a blob and sends nothing of it. The runtime beside it gets the blob in time."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pantala_peer.app import PeerApp
from pantala_peer.mirror.deadlines import Deadlines
from pantala_protocol import ranges, task_id
from pantala_protocol.sync import Assignment, HeldPieces, WantedBlob
from tests.support.eventually import eventually
from tests.support.fake_registry import FakeRegistry, sha256
from tests.support.hostile_peer import HostilePeer, Request, Serve, head, silence
from tests.support.peer_lab import mirror
from tests.support.scripted_images import asked, get
from tests.support.supernode_lab import SupernodeLab

LAYER = hashlib.shake_256(b"a layer").digest(6 * 1024 * 1024 + 17)
HURRIED = Deadlines(again=1.0, stall=4.0)


async def never_goes_on(request: Request, writer: asyncio.StreamWriter) -> None:
    """Send a head, and then nothing."""
    _, first, end = request
    writer.write(head(first, end, len(LAYER)))
    await asyncio.sleep(60)


class Lab(SupernodeLab):
    """A supernode, and a registry with one image. Hostile peers claim to hold its layer."""

    def __init__(self, folder: Path, registry: FakeRegistry) -> None:
        super().__init__(folder)
        self.registry = registry

    @property
    def path(self) -> str:
        return f"/v2/team/app/blobs/{sha256(LAYER)}?ns={self.registry.host}"

    @contextlib.asynccontextmanager
    async def node(self, name: str, **settings: Any) -> AsyncIterator[PeerApp]:
        """A node whose runtime has read the image's manifests."""
        async with mirror(self.url, self.folder / name, name, **{"grace": 0.2, **settings}) as made:
            for digest in self.registry.manifests:
                if ":" in digest:
                    path = f"/v2/team/app/manifests/{digest}?ns={self.registry.host}"
                    assert 200 == (await get(made.mirror.port, path))[0]
            yield made

    @contextlib.asynccontextmanager
    async def hostile(self, serve: Serve) -> AsyncIterator[HostilePeer]:
        """A peer that may read the blob, and claims to have all of it."""
        async with HostilePeer(self.url, serve).living() as made:
            wants = {task_id.of_blob(sha256(LAYER)): WantedBlob(self.registry.host, "team/app", sha256(LAYER))}
            assignment: Assignment | None = None
            while assignment is None or not assignment.digest:
                await made.say(wants=wants)
                assignment = next(iter(made.assignments), None)
            pieces = -(-len(LAYER) // assignment.piece_size)
            all_of_it = {assignment.task_id: HeldPieces(assignment.generation, ranges.render((1 << pieces) - 1))}
            claiming = asyncio.create_task(made.say(wants={}, done=all_of_it))
            holders = self.app.managers.progress.peers_by_piece
            await eventually(lambda: made.name in holders(assignment.task_id, pieces - 1))
            going_on = asyncio.create_task(made.go_on())
            try:
                yield made
                await claiming
                assert not going_on.done()
            finally:
                going_on.cancel()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with FakeRegistry() as registry, Lab(tmp_path, registry) as lab:
        registry.push("1", layer=LAYER)
        await lab.state()
        yield lab


async def longest_wait(node: PeerApp, path: str, hostile: HostilePeer) -> float:
    """Read a whole blob as containerd does, and return the longest wait for a part in seconds."""
    loop, body, waits = asyncio.get_running_loop(), bytearray(), list[float]()
    at = loop.time()
    async with asked(node.mirror.port, path, timeout=30.0) as answer:
        size = int(answer.headers["content-length"])
        while len(body) < size and (chunk := await answer.reader.read(1 << 20)):
            body += chunk
            waits.append(loop.time() - at)
            at = loop.time()
    assert hostile.asked, "it received no request"
    assert (200, sha256(LAYER)) == (answer.status, sha256(bytes(body))), waits
    assert (0, 0) == (node.mirror.server.counts.late, node.mirror.server.counts.broken)
    return max(waits)


@pytest.mark.parametrize("serve", [silence, never_goes_on])
async def test_a_silent_provider_delays_no_first_byte_beyond_its_deadline(lab: Lab, serve: Serve) -> None:
    async with lab.hostile(serve) as hostile, lab.node("n1") as node:
        assert await longest_wait(node, lab.path, hostile) < Deadlines().blob
    assert 1 == sum(sha256(LAYER) in one.path and one.method == "GET" for one in lab.registry.asked)


async def drips(request: Request, writer: asyncio.StreamWriter) -> None:
    """Send one more byte before each stall timeout."""
    _, first, end = request
    writer.write(head(first, end, len(LAYER)))
    for byte in LAYER[first:end]:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.2)


async def test_a_stalled_reader_gets_its_piece_from_the_supernode_while_the_provider_still_drips(lab: Lab) -> None:
    async with lab.hostile(drips) as hostile, lab.node("n1", mirror_deadlines=HURRIED) as node:
        before = lab.app._pieces.log.bytes_sent
        assert HURRIED.again <= await longest_wait(node, lab.path, hostile) < HURRIED.stall
        assert len(LAYER) - 17 <= lab.app._pieces.log.bytes_sent - before  # the last piece is so short that it drips in
