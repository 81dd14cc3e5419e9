"""A world of tenants and registries that lie, around the real leases, evidence and CDN of a supernode.

The world knows the truth: which registry would send which bytes for which credential, and when it did so last.
"""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pantala_pieces.store import PieceStore
from pantala_protocol import ranges, task_id
from pantala_protocol.geometry import PieceSizes
from pantala_protocol.rules.rights import Right, Rights
from pantala_protocol.statement import Statement
from pantala_protocol.sync import WantedBlob
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.errors import (
    SourceForbiddenError,
    SourceInterruptedError,
    SourceNotFoundError,
    SourceTimeoutError,
)
from pantala_supernode.images.blob import KeptBlob, Question
from pantala_supernode.images.evidence import EvidenceFinder
from pantala_supernode.images.leases import BlobLeases
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.images.sources import BlobSources
from pantala_supernode.origin.body import ChunkBody
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import PeerManager, SwarmPeer
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import Managers, SchedulerManager
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.shares import Shares
from pantala_supernode.tasks.task import Lease
from tests.support.cdn import origin_only, tools
from tests.support.fake_registry import no_cloud

PIECE = 1024
SIZE = 4 * PIECE + 100
PRIVATE = (
    hashlib.shake_256(b"private").digest(PIECE) + bytes(2 * PIECE) + hashlib.shake_256(b"more").digest(PIECE + 100)
)
"""A private blob with runs of zeros."""
DIGEST = f"sha256:{hashlib.sha256(PRIVATE).hexdigest()}"
NAME = task_id.of_blob(DIGEST)
PEERS = ("n1", "n2", "n3")
EPSILON = 0.001


@dataclass
class Repository:
    """One repository, and what it answers about the blob."""

    name: str
    readers: set[str] = field(default_factory=set)
    """The credentials that may read it. An empty one: everybody."""
    lie: str = ""
    """How it answers. Empty: honestly, with the blob."""

    @property
    def registry(self) -> str:
        return self.name.partition("/")[0]

    @property
    def content(self) -> bytes:
        """What it sends to its readers."""
        garbage = hashlib.shake_256(self.name.encode()).digest(SIZE)
        match self.lie:
            case "garbage":
                return garbage
            case "zeros":
                return bytes(SIZE)
            case "short":
                return garbage[:100]
            case "long":
                return garbage + b"more"
            case "prefix":
                return PRIVATE[: 2 * PIECE]
            case "late":
                return PRIVATE[: 3 * PIECE] + garbage[3 * PIECE :]
        return PRIVATE

    def admits(self, credential: str) -> bool:
        return bool({credential, ""} & self.readers)


@dataclass(frozen=True)
class Client:
    """A client of a node, with its repository and credential."""

    peer: str
    repository: str
    credential: str


class World:
    """The registries, the clients and one supernode. ``now`` is the supernode's clock."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.repositories: dict[str, Repository] = {}
        self.page = False
        """True if a refused request gets a page to log in, with status 200 and the length of nothing in particular."""
        self.allowed: dict[tuple[str, str], float] = {}
        """When a repository last would have sent the whole private blob for a credential."""
        self.given: list[tuple[Client, Right]] = []
        """The answers to questions."""
        self.spoke: dict[str, set[Client]] = {peer: set() for peer in PEERS}
        """The clients for which each peer has spoken."""
        self._folder = folder
        self._questions: list[Question] = []
        self._wants: dict[str, Client] = {}
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self._events = 0

    # The supernode

    async def begin(self, kept: tuple[KeptBlob, ...] = ()) -> None:
        progress = ProgressManager()
        scheduler = SchedulerManager(progress, policy=SchedulingPolicy(), chance=None, lookup=lambda _: None)  # type: ignore[arg-type]
        self.managers = Managers(TaskManager(grace=5), DfgetTaskManager(), PeerManager(), progress, scheduler)
        for name in PEERS:
            self.managers.peers.register(SwarmPeer(name, "10.0.0.1", 1, b""))
        self.store = PieceStore(self._folder, durable=False)
        self.cdn = CDNManager(
            CopyTable(self.store, self._on_copy),
            self,
            tools(rng=random.Random(7), sleep=self._sleep, piece_sizes=PieceSizes(lambda _: PIECE, lambda _: PIECE)),
            choose=origin_only,
            shares=Shares(),
        )
        rights, endpoints, images = Rights(random.Random(8).randbytes(32)), RegistryEndpoints(), StatedImages()
        self.evidence = EvidenceFinder(self, endpoints, rights, self.cdn.vouch, clock=self.clock)
        self.blobs = BlobLeases(
            self,
            self.managers,
            BlobSources(images, OrderAccounts(no_cloud()), endpoints, rights, clock=self.clock),
            rights,
            self.evidence.find,
            reassign=lambda _: None,
            received=self.cdn.kept_bytes,
            seconds=600.0,
            clock=self.clock,
        )
        self.blobs.restore(kept)
        await self.cdn.recover()
        self.blobs.on_volume_read()
        self.managers.tasks.state(Statement(1), now=self.now)
        self.blobs.on_statement()

    async def end(self) -> None:
        await self.evidence.close()
        await self.cdn.copies.close()
        self._questions.clear()

    async def restart(self) -> None:
        kept = self.blobs.kept()
        await self.end()
        self.given.clear()
        await self.begin(kept)
        for client in self._wants.values():
            self._say(client)

    def clock(self) -> float:
        return self.now

    def lease(self, name: str, lease: Lease) -> None:
        self._apply(self.managers.tasks.lease(name, lease).tasks)

    def end_lease(self, name: str, *, keep: bool = False) -> None:
        for retired in self.managers.tasks.end_lease(name, keep=keep).retired:
            self.cdn.retire(retired)

    def _apply(self, tasks: set[TaskID]) -> None:
        for name in tasks:
            task = self.managers.tasks.get(name)
            if task is not None and task.suspended:
                self.cdn.pause(name)
            elif task is not None:
                self.cdn.trigger(task.order())
            self._on_copy(name)

    def _on_copy(self, name: TaskID) -> None:
        self._events += 1
        task, copy = self.managers.tasks.get(name), self.cdn.status(name)
        if task is not None and task.copy != copy:
            self.managers.tasks.update(name, copy)
            self.blobs.on_task_changed(name)

    async def _sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.now + seconds, woken))
        await woken.wait()

    # The clients

    def want(self, client: Client) -> None:
        self._wants[client.peer] = client
        self._say(client)

    def unwant(self, peer: str) -> None:
        self._wants.pop(peer, None)
        self.blobs.take(peer, {})

    def ask(self, client: Client) -> None:
        def answer(right: Right | None) -> None:
            if right is not None:
                self.given.append((client, right))

        self.spoke[client.peer].add(client)
        self._questions.append(self.blobs.ask(client.peer, _wanted(client), answer))

    def end_questions(self) -> None:
        for question in self._questions:
            self.blobs.end(question)
        self._questions.clear()

    def _say(self, client: Client) -> None:
        self.spoke[client.peer].add(client)
        self.blobs.take(client.peer, {NAME: _wanted(client)})

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        for until, woken in list(self._sleepers):
            if until <= self.now:
                self._sleepers.remove((until, woken))
                woken.set()
        for retired in self.managers.tasks.expire(now=self.now).retired:
            self.cdn.retire(retired)
        self.blobs.tick()
        await self.settle()

    async def settle(self) -> None:
        """Run until nothing happens any more, but for what hangs."""
        quiet = 0
        while quiet < 4:
            before = self._events
            await asyncio.sleep(0.001)
            quiet = quiet + 1 if before == self._events else 0

    # The registries

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        self._events += 1
        where = RegistryEndpoints().repository_of(source.url)
        repository, credential = self.repositories[str(where)], source.headers.get("Authorization", "")
        if not repository.admits(credential):
            if not self.page:
                raise SourceForbiddenError("no")
            yield self._answer(b"<html>log in</html>" * 20, None)
            return
        if repository.lie == "missing":
            raise SourceNotFoundError("no such blob")
        if repository.lie == "hangs":
            if source.client and resume is None:
                await asyncio.Event().wait()
            raise SourceTimeoutError("too slow")
        if repository.content == PRIVATE:
            self.allowed[repository.name, credential] = self.now
        yield self._answer(repository.content, resume, cut=repository.lie == "prefix")

    def _answer(self, content: bytes, resume: Resume | None, *, cut: bool = False) -> Answer:
        offset = min(resume.offset, len(content)) if resume is not None else 0
        stop = resume.end if resume is not None and resume.end is not None else len(content)

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(offset, min(stop, len(content)), 300):
                self._events += 1
                yield content[start : min(start + 300, stop)]
                await asyncio.sleep(0)
            if cut:
                raise SourceInterruptedError("cut")

        return Answer(SIZE if cut else len(content), offset, "", "", True, ChunkBody(chunks()))

    # The truth

    def pieces(self) -> dict[int, bytes]:
        """The pieces that are here, of the present generation."""
        file, copy = self.store.get(NAME), self.cdn.status(NAME)
        if file is None or file.meta.generation != copy.generation:
            return {}
        found = {}
        for piece in ranges.members(copy.cached):
            with contextlib.suppress(Exception):
                found[piece] = bytes(file.read(piece))
        return found

    def may_read(self, client: Client, piece: int, data: bytes) -> bool:
        """True if the client may read these bytes: from its own repository, or as the private blob, lately."""
        own = self.repositories[client.repository]
        start = piece * PIECE
        if data == PRIVATE[start : start + PIECE] and data.strip(b"\0"):
            lately = self.now - 300.0 - EPSILON
            for (name, credential), at in self.allowed.items():
                same = name.partition("/")[0] == own.registry and credential in ("", client.credential)
                if same and at >= lately:
                    return True
            return own.lie in ("prefix", "late") and piece < 3 and own.admits(client.credential)
        others = [each for each in self.repositories.values() if each.registry != own.registry and each.lie]
        alien = {each.content[start : start + PIECE] for each in others} - {bytes(PIECE)}
        return data not in alien

    def check(self) -> None:
        """No client has a right to bytes that it may not read, and no peer fetches them."""
        copy, pieces, task = self.cdn.status(NAME), self.pieces(), self.managers.tasks.get(NAME)
        for client, right in self.given:
            if right.until > self.now and right.generation == copy.generation:
                for piece, data in pieces.items():
                    assert self.may_read(client, piece, data), (client, right, piece, copy)
        for peer in task.fetchers if task is not None else ():
            for piece, data in pieces.items():
                assert any(self.may_read(client, piece, data) for client in self.spoke[peer]), (peer, piece, copy)


def _wanted(client: Client) -> WantedBlob:
    registry, _, name = client.repository.partition("/")
    return WantedBlob(registry, name, DIGEST, credential=client.credential)
