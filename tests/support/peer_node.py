"""A node without supernodes, with one task, for tests of its disk."""

import asyncio
import hashlib
import random
from pathlib import Path

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.events import Assigned, FileDue, PeerEvents
from pantala_pieces.file import PieceFile
from pantala_pieces.scrub import Scrub
from pantala_protocol.sync import Assignment, Delivery, DeliveryState
from tests.support.peer import assigned_tasks
from tests.support.peer_cache import received

TASK = "a" * 64
SIZE = 1024
CONTENT = random.Random(0).randbytes(3 * SIZE + 1)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def assigned(*, blob: bool = False, sha256: str = SHA256) -> Assignment:
    deliveries = () if blob else (Delivery("uid", "there"),)
    return Assignment(TASK, "g", SIZE, len(CONTENT), f"sha256:{sha256}", deliveries=deliveries)


class Node:
    """A node without supernodes."""

    def __init__(self, root: Path) -> None:
        self.cache = PieceCache(root / "cache")
        events = PeerEvents()
        self.tasks = assigned_tasks(root, self.cache, events)
        self.scrub = Scrub(self.cache, busy=lambda: False)
        events.subscribe(FileDue, lambda _: self.scrub.wake())
        self.published = root / "files" / "there"
        self.states: list[DeliveryState | None] = []
        self.tasks._supernodes.delivery = self._on_delivery  # type: ignore[method-assign]

    def _on_delivery(self, task_id: str, uid: str, state: DeliveryState | None) -> None:
        self.states.append(state)

    @property
    def file(self) -> PieceFile:
        file = self.cache.lookup(TASK)
        assert file is not None
        return file

    def put(self, *pieces: int) -> None:
        for piece in pieces:
            self.cache.put(*received(CONTENT, piece, SIZE, TASK))

    async def open(self) -> None:
        """Start as after a restart, with a scrub."""
        await self.tasks.open()
        await self.cache.hold(assigned())
        self._scrubbing = asyncio.create_task(self.scrub.run(self.tasks.touch))

    async def close(self) -> None:
        self._scrubbing.cancel()
        await asyncio.gather(self._scrubbing, return_exceptions=True)
        await self.tasks.close()
        self.tasks._deliveries.close()
        self.cache.close()

    async def settle(self, assignment: Assignment | None = None) -> None:
        """Assign a task, or look at it again."""
        if assignment is not None:
            self.tasks._on_assigned(Assigned({TASK: assignment}, complete=True))
        self.tasks.touch(TASK)
        while self.tasks._settling:
            await asyncio.gather(*self.tasks._settling.values())
